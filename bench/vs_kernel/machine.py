# SPDX-License-Identifier: Apache-2.0
"""What the figures were measured on."""

import os
import platform
from pathlib import Path

from .host_file import meminfo_bytes, read_text

_SETTINGS = {
    "thp": "/sys/kernel/mm/transparent_hugepage/enabled",
    "khugepaged_defrag": "/sys/kernel/mm/transparent_hugepage/khugepaged/defrag",
    "page_cluster": "/proc/sys/vm/page-cluster",
    "page_reporting_min_free_ms": "/sys/module/page_reporting/parameters/min_free_ms",
    "zswap_compressor": "/sys/module/zswap/parameters/compressor",
    "zswap_max_pool_percent": "/sys/module/zswap/parameters/max_pool_percent",
}


def describe_machine():
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
                  if line.startswith("model name")), "unknown")
    return {"kernel": platform.release(), "cpu": model, "cpus": os.cpu_count(), "memory_bytes": meminfo_bytes("MemTotal"),
            "load_before": round(os.getloadavg()[0], 2),  # what else ran; 0 on a quiet machine
            **{name: read_text(path) for name, path in _SETTINGS.items() if Path(path).exists()}}
