"""Faults on purpose: of networks, processes and stores, under load, and what is left of it afterwards."""
