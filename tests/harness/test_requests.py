import io
from typing import Any, ClassVar

import pytest
from datasets import Dataset, Features, Image, List, Value
from lmms_eval.api.instance import Instance
from PIL import Image as PILImage

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.requests import (
    ImageKeys,
    Request,
    group_by_image,
    is_padding,
    read_chat,
    read_simple,
)
from dualfocus_eval.harness.structure import Structure


def png(grey: int) -> dict[str, Any]:
    file = io.BytesIO()
    PILImage.new("L", (8, 8), grey).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def dataset(greys: list[int]) -> Dataset:
    rows = {"question": [f"q{n}" for n in range(len(greys))], "image": [png(grey) for grey in greys]}
    return Dataset.from_dict(rows, features=Features({"question": Value("string"), "image": Image()}))


def request(task: str, doc_id: int) -> Request:
    return Request(task, "test", doc_id, "", lambda doc: [])


def test_questions_about_an_image_stand_together_across_tasks_in_the_order_of_first_appearance() -> None:
    keys = ImageKeys({"a": {"test": dataset([1, 2, 1])}, "b": {"test": dataset([2, 3, 1])}})
    asked = [request("a", 0), request("a", 1), request("a", 2), request("b", 0), request("b", 1), request("b", 2)]
    assert [it.key for it in group_by_image(asked, keys)] == ["a/0", "a/2", "b/2", "a/1", "b/0", "b/1"]


def test_a_repeated_request_is_asked_once() -> None:
    keys = ImageKeys({"a": {"test": dataset([1])}})
    assert len(group_by_image([request("a", 0), request("a", 0)], keys)) == 1


def test_several_images_of_a_document_count_together() -> None:
    rows = {"images": [[png(1), png(2)], [png(1), png(2)], [png(2), png(1)]]}
    documents = Dataset.from_dict(rows, features=Features({"images": List(Image())}))
    keys = ImageKeys({"a": {"test": documents}})
    first, second, third = (keys.key(request("a", number)) for number in range(3))
    assert first == second != third


def test_documents_without_stored_images_stand_alone() -> None:
    keys = ImageKeys({"a": {"test": Dataset.from_dict({"path": ["x.png", "x.png"]})}, "b": {"test": [{}, {}]}})
    assert keys.key(request("a", 0)) != keys.key(request("a", 1))
    assert keys.key(request("b", 0)) != keys.key(request("b", 1))


def instance(arguments: tuple[Any, ...], kind: str = "generate_until", **metadata: Any) -> Instance:
    return Instance(kind, arguments, 0, {"task": "a", "doc_id": 3, "repeats": 1, **metadata})


def test_chat_and_simple_instances_are_read_alike() -> None:
    class Task:
        lmms_eval_specific_kwargs: ClassVar = {"pre_prompt": "Look.", "post_prompt": "Be brief."}

        def read(self, doc: Any) -> list[Any]:
            return []

    read, kwargs = Task().read, {"max_new_tokens": 4, "until": ["\n"]}
    structure = {"dualfocus": {"stem": "question"}}
    chat = read_chat(instance(("ctx", read, kwargs, 3, "a", "test"), **structure))
    simple = read_simple(instance(("ctx", kwargs, read, 3, "a", "test"), **structure))
    assert vars(chat) == vars(simple)
    assert (chat.key, chat.limits and chat.limits.stop, chat.structure) == ("a/3", ("\n",), Structure(stem="question"))
    assert (chat.pre_prompts, chat.post_prompts) == (("Look.",), ("Be brief.",))


def test_loglikelihood_has_no_limits_and_needs_a_context() -> None:
    assert read_simple(instance(("ctx", " A", None, 3, "a", "test"), "loglikelihood")).limits is None
    with pytest.raises(UserError, match="acc_mutual_info"):
        read_simple(instance(("", " A"), "loglikelihood"))


def test_padding_is_recognised() -> None:
    assert is_padding(instance((), __padding_only__=True))
    assert not is_padding(instance(()))
