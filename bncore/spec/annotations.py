"""What the annotations of a spec's classes say: which class stands where, and which a union chooses from."""

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The class that an annotation is, if it is one."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def plain(annotation: Any) -> Any:
    """Without Annotated and without `| None`, neither of which appears in a location."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) == 1:
            return plain(members[0])
    return annotation


def union_members(annotation: Any) -> dict[int | str, Any]:
    """The members of a union by what tells them apart in a location: a `Tag`, or the kind of a model."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return {}
    return {_tag(member): plain(member) for member in get_args(annotation) if member is not type(None)}


def _tag(member: Any) -> Any:
    tags = [said.tag for said in getattr(member, "__metadata__", ()) if isinstance(said, Tag)]
    model = model_of(plain(member))
    return tags[0] if tags else model.model_fields["kind"].default if model else None
