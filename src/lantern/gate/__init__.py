"""What happens to a request before a capability sees it: who, how often, how much, what was done."""
