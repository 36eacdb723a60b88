"""What is asked of the contract service (GraphQL)."""

from __future__ import annotations

#: Everything of one instrument.
CONTRACT = """
query ($instrument_id: [String]) {
  multi_symbol_info(instrument_id: $instrument_id) {
    ... on basic {
      instrument_id instrument_name class price_tick trading_time { day night }
    }
    ... on tradeable { volume_multiple }
    ... on future { margin commission expire_datetime expired }
    ... on derivative {
      underlying { edges { node {
        ... on basic { instrument_id price_tick trading_time { day night } }
        ... on tradeable { volume_multiple }
        ... on future { margin commission expire_datetime expired }
      } } }
    }
  }
}
"""

#: The same of all futures that are listed.
CONTRACTS = """
query ($exchange_id: [String]) {
  multi_symbol_info(class: [FUTURE], exchange_id: $exchange_id, expired: false) {
    ... on basic {
      instrument_id instrument_name class price_tick trading_time { day night }
    }
    ... on tradeable { volume_multiple }
    ... on future { margin commission expire_datetime expired }
  }
}
"""

#: Futures that are listed.
FUTURES = """
query ($exchange_id: [String]) {
  multi_symbol_info(class: [FUTURE], exchange_id: $exchange_id, expired: false) {
    ... on basic { instrument_id }
  }
}
"""

#: Main contracts of all exchanges.
MAINS = "{ multi_symbol_info(class: [CONT]) { ... on basic { instrument_id } } }"

#: The least that can be asked, to hear whether the line still answers.
PROBE = """
query ($instrument_id: [String]) {
  multi_symbol_info(instrument_id: $instrument_id) { ... on basic { instrument_id } }
}
"""
