# SPDX-License-Identifier: Apache-2.0
"""The program behind bench/vs-kernel: our manager against the kernel's own swap, in the same run."""
