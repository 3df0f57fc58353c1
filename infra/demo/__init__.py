"""The main job as one command: `python -m infra.demo`, on real servers, spoken to as a person or program would.

Nothing here reaches into the product: it runs `meterbook`, posts to the HTTP API and reads what they answer.
"""
