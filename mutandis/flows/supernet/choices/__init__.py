"""What runs at a choice when several arms run at once, or one for the gradient of its gate."""
