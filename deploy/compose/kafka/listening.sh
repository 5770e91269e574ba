#!/bin/bash
# The broker's health check, without a second Java: its listener accepts a connection.
exec 3<>/dev/tcp/127.0.0.1/9092
