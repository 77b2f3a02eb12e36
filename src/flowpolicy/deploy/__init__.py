"""What a robot's computer needs: a packaged policy is read, checked and run with numpy alone.

Nothing in this folder imports JAX, and nothing that it reads is executed: a program is data, a list
of steps whose names are looked up in a closed table.
"""
