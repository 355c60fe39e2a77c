"""A verdict as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

from xml.etree import ElementTree as Xml

from dualfocus_eval.common.escaping import xml_text
from dualfocus_eval.gate.verdict import Verdict
from dualfocus_eval.gate.verdict_text import move_line

__all__ = ["error_xml", "verdict_xml"]

_SUITE = "dualfocus regress"


def verdict_xml(verdict: Verdict) -> bytes:
    """A suite per task; a test per question, failed where its answer got worse and may not, and one for the score."""
    root = Xml.Element("testsuites", name=_SUITE)
    for task in verdict.tasks:
        moved = {move.key: move for move in task.moves if not move.allowed}
        failures = len(moved) + bool(task.shortfalls)
        suite = Xml.SubElement(
            root, "testsuite", name=task.name, tests=str(len(task.keys) + 1), failures=str(failures), errors="0"
        )
        for key in task.keys:
            case = Xml.SubElement(suite, "testcase", classname=task.name, name=key)
            if key in moved:
                _fail(case, f"the answer is {moved[key].direction}", move_line(moved[key]))
        case = Xml.SubElement(suite, "testcase", classname=task.name, name="score")
        if task.shortfalls:
            _fail(case, "the score is too low", "; ".join(task.shortfalls))
    return _written(root)


def error_xml(message: str) -> bytes:
    """One test that could not be run."""
    root = Xml.Element("testsuites", name=_SUITE)
    suite = Xml.SubElement(root, "testsuite", name=_SUITE, tests="1", failures="0", errors="1")
    case = Xml.SubElement(suite, "testcase", classname=_SUITE, name="judged")
    Xml.SubElement(case, "error", message=message)
    return _written(root)


def _fail(case: Xml.Element, what: str, text: str) -> None:
    Xml.SubElement(case, "failure", message=what).text = text


def _written(root: Xml.Element) -> bytes:
    for element in root.iter():
        element.attrib.update({name: xml_text(value) for name, value in element.attrib.items()})
        element.text = element.text and xml_text(element.text)
    Xml.indent(root)
    content: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"
