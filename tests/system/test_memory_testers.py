# SPDX-License-Identifier: Apache-2.0
"""stress-ng and memtester find no wrong bit under limits of 75, 50 and 25 % of the guest's memory with proactive reclaim at
full speed; and would find one. The long form is tests/integrity-campaign."""

import itertools
import select

import pytest

from integrity.plan import short_plan
from integrity.rounds import run_round
from testbed.deadline import Deadline, wait_until
from testbed.guest_channel import GuestError
from testbed.memory_testers import Memtester, StressNg
from testbed.process_view import guest_ram
from testbed.sizes import MIB

_MEMORY = 256 * MIB


@pytest.fixture(scope="module")
def tool_guest(testbed):
    with testbed.guest("tools", _MEMORY, tools=True) as guest:
        guest.start()
        yield guest


@pytest.mark.parametrize("this_round", short_plan(_MEMORY), ids=lambda this_round: this_round.name.replace(" ", "-"))
def test_no_bit_is_wrong(thermocline, tool_guest, this_round):
    domain = thermocline.domain(tool_guest)
    domain.attach()
    result = run_round(tool_guest, domain, this_round)
    assert not result.problems
    assert result.figures["LimitBytes"] == _MEMORY * this_round.share // 100
    domain.detach()


def _page_of_the_tester(guest):
    """Guest-physical address in the middle of what it works on, once it has that much; it waits there for "finish"."""

    def found():
        try:
            return guest.channel.request("tool-page 2000")["physical"]
        except GuestError:
            return None

    return wait_until("the tester has its memory", found)


@pytest.mark.parametrize("tester", [StressNg(32 * MIB, operations=10_000, method="zero-one", workers=1),
                                    Memtester(16 * MIB, mask=1)], ids=lambda tester: tester.name)
def test_a_spoilt_byte_is_found(own_guest, tester):
    guest = own_guest("spoilt", tools=True).start()
    guest.start_program(*tester.command())
    address = guest_ram(guest.pid, _MEMORY) + _page_of_the_tester(guest) + 1234
    guest.channel.send("finish")
    deadline = Deadline(120.0)
    # Again and again: what the tester writes next would hide a single one.
    with open(f"/proc/{guest.pid}/mem", "r+b", buffering=0) as memory:
        for value in itertools.count(1):
            if select.select([guest.channel], [], [], 0.001)[0]:
                break
            assert not deadline.over, "the tester does not end"
            memory.seek(address)
            memory.write(bytes([value & 0xff]))
    answer = guest.channel.receive_answer("finish", 10.0)
    verdict = tester.verdict(answer["exit_code"], answer["output"])
    assert verdict.errors and verdict.exit_code != 0 and not verdict.clean
