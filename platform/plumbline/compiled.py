"""Statements that are made ready once, for the few questions that every vote asks.

Django builds and compiles a queryset anew for each use, which costs several times what the database
takes to answer. A `Compiled` keeps the SQL and the way rows become models, and only puts the values
in. It asks exactly what its queryset asks; nothing is written twice. What the compiler says of its
columns is read as Django's own `ModelIterable` reads it. Django does not promise to keep that:
`tests/test_compiled.py` holds the rows against a queryset's.

PostgreSQL, too, parses and plans a statement anew each time, longer than it takes to run one of
these. A `Prepared` is planned once a connection. What never changes stays in its text, so that the
plan can use indexes of a part of a table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import connection
from django.db.models import (
    BigAutoField,
    DateTimeField,
    Expression,
    Field,
    Model,
    QuerySet,
    UUIDField,
)
from django.db.models.query import get_related_populators

M = TypeVar("M", bound=Model)


class Given(Expression):
    """A value of a compiled queryset that each call names."""

    def __init__(self, name: str, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        return "%s", (self,)

    def bound(self, value: Any) -> Any:
        return self.output_field.get_db_prep_value(value, connection)


class Prepared:
    """SQL with `%s` for each of `params`: a `Given`, or a value that is always the same."""

    def __init__(self, sql: str, params: Sequence[Any]) -> None:
        self.sql, self.params = sql, list(params)
        self._given = {one.name: one for one in params if isinstance(one, Given)}

    @classmethod
    def named(cls, sql: str, *given: Given) -> Prepared:
        """SQL with `%(name)s` for what is `Given`."""
        known = {one.name: one for one in given}
        params = [known[name] for name in _NAMED.findall(sql)]
        return cls(_NAMED.sub("%s", sql), params)

    def execute(self, cursor: Any, **values: Any) -> None:
        """Run it for these values, by name of what is `Given`."""
        bound = {name: one.bound(values[name]) for name, one in self._given.items()}
        if connection.vendor != "postgresql" or not settings.DATABASE_PREPARES:
            given = (bound[one.name] if isinstance(one, Given) else one for one in self.params)
            cursor.execute(self.sql, list(given))
            return
        ready = _ready.setdefault(connection.connection, set())
        if self._name not in ready:
            with connection.wrap_database_errors:
                connection.connection.execute(f"PREPARE {self._name} AS {self._text}")
            ready.add(self._name)
        places = ", ".join(["%s"] * len(bound))
        cursor.execute(f"EXECUTE {self._name} ({places})", list(bound.values()))

    @cached_property
    def _name(self) -> str:
        """Says in the server's logs what the statement does, too."""
        digest = hashlib.sha256(self._text.encode()).hexdigest()
        return f"plumbline_{self._text.split(maxsplit=1)[0].lower()}_{digest[:16]}"

    @cached_property
    def _text(self) -> str:
        """With `$1`, `$2` for what is given, and everything else as it is."""
        numbers = {name: f"${number}" for number, name in enumerate(self._given, 1)}
        pieces = [piece.replace("%%", "%") for piece in self.sql.split("%s")]
        operations: Any = connection.ops  # PostgreSQL's
        text = pieces[0]
        for param, piece in zip(self.params, pieces[1:], strict=True):
            given = isinstance(param, Given)
            text += numbers[param.name] if given else operations.compose_sql("%s", [param])
            text += piece
        return text


_NAMED = re.compile(r"%\((\w+)\)s")
_ready: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()  # by connection to the database


def given_id(name: str) -> Given:
    return Given(name, BigAutoField())


def given_uuid(name: str) -> Given:
    return Given(name, UUIDField())


def given_time(name: str) -> Given:
    return Given(name, DateTimeField())


class Compiled(Generic[M]):
    """A queryset of models; annotations and `select_related` come along. It is built at first use
    and never again, so whatever is not the same each time has to be `Given`."""

    def __init__(self, build: Callable[[], QuerySet[M]]) -> None:
        self._build = build
        self._statements: dict[str, _Statement] = {}  # by kind of database

    def all(self, **values: Any) -> list[M]:
        """The rows for these values, by name of what is `Given`."""
        statement = self._statements.get(connection.vendor)
        if statement is None:
            statement = self._statements[connection.vendor] = _Statement(self._build())
        return [statement.model(row) for row in statement.rows(values)]

    def first(self, **values: Any) -> M | None:
        return next(iter(self.all(**values)), None)


class Writing(Generic[M]):
    """Rows of a model stored as `save` stores them, by statements made ready once. For models that
    neither signals nor `save` itself do anything for."""

    def __init__(self, model: type[M]) -> None:
        self._fields = list(model._meta.concrete_fields)
        self._key = next(field for field in self._fields if field.primary_key)
        names = ", ".join(f'"{field.column}"' for field in self._fields)
        values = ", ".join(["%s"] * len(self._fields))
        sql = f'INSERT INTO "{model._meta.db_table}" ({names}) VALUES ({values})'
        self._insert = Prepared(sql, [Given(field.attname, field) for field in self._fields])
        self._update = f'UPDATE "{model._meta.db_table}" SET %s WHERE "{self._key.column}" = %%s'
        self._updates: dict[tuple[str, ...], Prepared] = {}

    def insert(self, row: M) -> M:
        """Store a new row, whose key it brings."""
        values = {field.attname: field.pre_save(row, True) for field in self._fields}
        with connection.cursor() as cursor:
            self._insert.execute(cursor, **values)
        row._state.adding, row._state.db = False, connection.alias
        return row

    def update(self, row: M, names: tuple[str, ...]) -> None:
        """Store these fields of a row that is known to be there."""
        if names not in self._updates:
            fields = [field for field in self._fields if field.name in names]
            told = ", ".join(f'"{field.column}" = %s' for field in fields)
            given = [Given(field.attname, field) for field in (*fields, self._key)]
            self._updates[names] = Prepared(self._update % told, given)
        values = {field.attname: getattr(row, field.attname) for field in self._fields}
        with connection.cursor() as cursor:
            self._updates[names].execute(cursor, **values)


class _Statement:
    """What a queryset comes to on one kind of database."""

    def __init__(self, queryset: QuerySet[Any]) -> None:
        self.db = queryset.db
        compiler = queryset.query.get_compiler(using=self.db)
        self.prepared = Prepared(*compiler.as_sql())
        info = compiler.klass_info
        fields: Sequence[int] = info["select_fields"]
        self.kind: type[Model] = info["model"]
        self.first, self.end = fields[0], fields[-1] + 1
        self.names = [column[0].target.attname for column in compiler.select[self.first : self.end]]
        populators: Any = get_related_populators  # its stub is another Django's
        self.related = populators(info, compiler.select, self.db)
        self.annotations = dict(compiler.annotation_col_map or {})
        columns = [column[0] for column in compiler.select[: compiler.col_count]]
        self.converters = compiler.get_converters(columns)

    def rows(self, values: Mapping[str, Any]) -> list[list[Any]]:
        with connection.cursor() as cursor:
            self.prepared.execute(cursor, **values)
            rows = [list(row) for row in cursor.fetchall()]
        for row in rows:
            for at, (converters, column) in self.converters.items():
                for convert in converters:
                    row[at] = convert(row[at], column, connection)
        return rows

    def model(self, row: list[Any]) -> Any:
        found = self.kind.from_db(self.db, self.names, row[self.first : self.end])
        for related in self.related:
            related.populate(row, found)
        for name, at in self.annotations.items():
            setattr(found, name, row[at])
        return found
