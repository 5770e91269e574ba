"""The pure core: deciding, folding, timers. It imports no other package of the kernel (an import contract)."""
