"""What the flow tests stand on: weir itself as a process, and the peers on both of its sides.

Nothing in here knows more of weir than a user does: its command line, its file, its ports.
"""
