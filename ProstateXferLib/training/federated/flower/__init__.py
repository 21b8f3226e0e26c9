# SPDX-License-Identifier: Apache-2.0
"""Federated rounds over Flower (flwr): one server that averages, sites that train; Flower moves bytes, no more.

What travels is a checkpoint to the sites and a weights package back, so that all that holds for packages (checks,
signature, hidden names, weights by patients) holds here. Tested with flwr 1.41; it is not among the library's own
dependencies. `server.py` and `site.py` are what the commands run; they start Flower's own programs (`programs.py`),
which start this library's side again (`task.py`) for every task: `server_app.py` or `site_app.py`.
"""
