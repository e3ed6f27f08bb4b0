"""What a call costs, in US dollars: the settings' own prices first, then the bundled table.

The table is a third party's, works offline and takes a third of a second to load, so it is loaded
when a model needs it and not before. A price nobody knows is None, never a guess of zero.
"""

from dataclasses import replace
from decimal import Decimal
from functools import lru_cache

from lantern.llm.types import Model, Price, Usage

FREE = Price(Decimal(0), Decimal(0))

_MTOK = 1_000_000
# No tier of any provider's price begins below this many tokens of input.
_SMALL = 30_000


def fill(model: Model, input_usd: Decimal | None, output_usd: Decimal | None) -> Model:
    """The model with its price for a million tokens; the given sides override the table."""
    if input_usd is not None and output_usd is not None:
        return replace(model, price=Price(input_usd, output_usd))
    listed = FREE if model.self_hosted else _listed(model.base_url, model.provider_model)
    if listed is None or (input_usd is None and output_usd is None):
        return replace(model, price=listed)
    own = Price(
        listed.input if input_usd is None else input_usd,
        listed.output if output_usd is None else output_usd,
    )
    return replace(model, price=own)


def cost(model: Model, usage: Usage) -> Decimal | None:
    """US dollars of a call; None when the price is not known."""
    price = model.price
    if price is None:
        return None
    if price.tiered and usage.input > _SMALL:
        return _calculate(model.base_url, model.provider_model, usage)
    return (usage.input * price.input + usage.output * price.output) / _MTOK


@lru_cache(maxsize=256)
def _listed(base_url: str, name: str) -> Price | None:
    sample = 1_000
    into = _calculate(base_url, name, Usage(sample, 0))
    out = _calculate(base_url, name, Usage(0, sample))
    whole = _calculate(base_url, name, Usage(_MTOK, 0))
    if into is None or out is None or whole is None:
        return None
    scale = _MTOK // sample
    return Price(into * scale, out * scale, tiered=whole != into * scale)


def _calculate(base_url: str, name: str, usage: Usage) -> Decimal | None:
    import genai_prices

    counted = genai_prices.Usage(input_tokens=usage.input, output_tokens=usage.output)
    # A gateway's address tells nothing about the price; the model's name still may.
    for address in (base_url, None):
        try:
            return genai_prices.calc_price(counted, name, provider_api_url=address).total_price
        except LookupError:
            continue
    return None
