"""What messages, codes, limits and states are: rules without any service."""
