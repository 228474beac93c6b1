"""Reinforcement learning: policies over steps that learn from the rewards of whole DNAs."""
