# SPDX-License-Identifier: Apache-2.0
"""stress-ng and memtester in a guest under limits, with proactive reclaim at full speed: the short form is a system test,
the long one tests/integrity-campaign."""
