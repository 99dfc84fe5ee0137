"""What a supervisor and its processes say to each other."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nodes.serving.orders import Complaint, Order, Report
from nodes.settings import NodeSettings
from resolver.errors import Fault, Reason


def test_an_order_is_one_line_and_arrives_as_it_was_given() -> None:
    order = Order(name="worker-0", socket="/run/x.sock", settings=NodeSettings(node="n é", data=Path("/d\n")))
    line = order.to_line()
    assert line.count(b"\n") == 1
    assert Order.from_line(line) == order


@given(st.sampled_from(Reason), st.text(min_size=1), st.text(), st.dictionaries(st.text(), st.text()))
def test_a_fault_arrives_as_it_was_raised(reason: Reason, detail: str, field: str, variables: dict[str, str]) -> None:
    fault = Fault(reason, detail, field=field, variables=variables)
    line = Report(complaint=Complaint.of(fault)).to_line()
    assert line.count(b"\n") == 1
    complaint = Report.from_line(line).complaint
    assert complaint
    there = complaint.to_fault()
    assert (there.reason, there.detail, there.field, there.variables) == (reason, detail, field, variables)
