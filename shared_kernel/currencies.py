"""ISO 4217: the active currencies and the decimals of their minor unit, in one table for checks, display and providers.

The table is part of the code and not read from the system: every machine has to validate a campaign with one result.
"""

from __future__ import annotations

from collections.abc import Mapping

_TWO_DECIMALS = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP
CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR
KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN
PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD
TZS UAH USD UYU UZS VES WST XCD XCG YER ZAR ZMW ZWG
"""
_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"

#: Decimals of the minor unit by currency. Active codes, without codes of funds, metals and tests.
EXPONENTS: Mapping[str, int] = {
    code: exponent
    for exponent, codes in ((0, _NO_DECIMALS), (2, _TWO_DECIMALS), (3, _THREE_DECIMALS))
    for code in codes.split()
}
CURRENCIES = frozenset(EXPONENTS)
#: Decimals of a currency that the table does not have.
DEFAULT_EXPONENT = 2


def decimal_text(minor: int, currency: str) -> str:
    """An amount in minor units as a decimal number with thousands separators: `123456, KWD` -> `123.456`."""
    exponent = EXPONENTS.get(currency, DEFAULT_EXPONENT)
    whole, rest = divmod(abs(minor), 10**exponent)
    text = f"{whole:,}" + (f".{rest:0{exponent}d}" if exponent else "")
    return f"-{text}" if minor < 0 else text
