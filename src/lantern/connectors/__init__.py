"""Adapters of the outside systems behind the ports in core."""

from lantern.connectors.crm_webhook import CrmWebhook

__all__ = ["CrmWebhook"]
