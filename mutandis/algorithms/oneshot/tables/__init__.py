"""The differentiable policy: tables of logits, what is drawn from them, and what moves them."""
