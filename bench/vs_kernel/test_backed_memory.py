# SPDX-License-Identifier: Apache-2.0
from vs_kernel.backed_memory import backed_memory


def test_free_memory_stays_for_a_minute_and_the_setting_is_put_back(tmp_path):
    setting = tmp_path / "min_free_ms"
    setting.write_text("0\n")
    with backed_memory(setting, size=4 << 20):
        assert setting.read_text() == "60000"
    assert setting.read_text() == "0"


def test_a_kernel_without_the_setting_is_left_alone(tmp_path):
    setting = tmp_path / "min_free_ms"
    with backed_memory(setting, size=4 << 20):
        assert not setting.exists()
