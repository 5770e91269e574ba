"""Two versions of the wheels side by side on one stack, and the replay of production topics as the gate before that."""
