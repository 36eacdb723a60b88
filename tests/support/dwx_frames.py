"""Frames of the DWX protocol, written by hand from what the expert advisor was seen to send.

Both sides are held to these: the simulator must send them, the adapter must read them.
"""

from __future__ import annotations

HEARTBEAT = "{'_action': 'heartbeat', '_response': 'loud and clear!'}"

#: 2020-11-02 14:30 and 14:31 UTC: in EET-US and EET-EU alike the server shows 16:30 and 16:31.
HISTORY_COMMAND = "HIST;EURUSD;1;2020.11.02 16:30:00;2020.11.02 16:31:00"
HISTORY = (
    "{'_action': 'HIST', '_symbol': 'EURUSD_M1', '_data': ["
    "{'time':'2020.11.02 16:30', 'open':1.16330000, 'high':1.16352000, 'low':1.16325000, "
    "'close':1.16341000, 'tick_volume':57, 'spread':1, 'real_volume':0}, "
    "{'time':'2020.11.02 16:31', 'open':1.16341000, 'high':1.16341000, 'low':1.16300000, "
    "'close':1.16310000, 'tick_volume':0, 'spread':1, 'real_volume':0}]}"
)
NO_HISTORY = "{'_action': 'HIST', '_symbol': 'EURUSD_M1', '_response': 'NOT_AVAILABLE'}"

TRACK_PRICES = "{'_action': 'TRACK_PRICES', '_data': {'symbol_count':2, 'error_symbols':['NOPE']}}"
TRACK_RATES = "{'_action': 'TRACK_RATES', '_data': {'instrument_count':1, 'error_symbols':[]}}"
BLOCKED = "{'_response': 'NO_BROKER_CONNECTION__ABORTED_COMMAND'}"

ACCOUNT = (
    "{'_action': 'GET_ACCOUNT_INFORMATION', 'account_number':8123456, '_data': ["
    "{'currenttime': '2020.11.02 16:31', 'account_name': 'Simulated', "
    "'account_balance':10000.00000000, 'account_equity':10000.00000000, "
    "'account_profit':0.00000000, 'account_free_margin':10000.00000000, 'account_leverage':100}]}"
)

TICK = "EURUSD:|:1.163410;1.163420"
#: The bar of 14:31 UTC at its first tick, stamped with the server's 16:31.
BAR = "EURUSD_M1:|:1604334660;1.163410;1.163410;1.163410;1.163410;1;1;0"
