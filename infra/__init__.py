"""What runs it locally: real servers as child processes, the Stripe simulator, the demo.

Nobody imports this room. It starts the product as processes and talks to it through its doors.
"""
