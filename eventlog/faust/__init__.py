"""All code that depends on private names of Faust or aiokafka, and on Faust's supervision.

Importing the package loads neither library: callers import the module that they need.
"""
