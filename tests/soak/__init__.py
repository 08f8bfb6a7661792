# SPDX-License-Identifier: Apache-2.0
"""Two guests under limits and policies that change every few seconds, for as long as is wanted (bench/soak)."""
