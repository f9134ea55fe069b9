"""Statements that are made ready once, for the few questions that every vote asks.

Django builds and compiles a queryset anew for each use, which costs several times what the database
takes to answer. A `Compiled` keeps the SQL and the way rows become models, and only puts the values
in. It asks exactly what its queryset asks; nothing is written twice. What the compiler says of its
columns is read as Django's own `ModelIterable` reads it. Django does not promise to keep that:
`tests/test_compiled.py` holds the rows against a queryset's.

PostgreSQL, too, parses and plans a statement anew each time, longer than it takes to run one of
these. A `Prepared` is planned once a connection. What never changes stays in its text, so that the
plan can use indexes of a part of a table. Each trip to the server costs both sides as much again:
what needs no answer in between goes `together`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections
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

    def bound(self, value: Any, database: Any) -> Any:
        return self.output_field.get_db_prep_value(value, database)


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
        cursor.execute(*self.ready(values))

    def ready(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """What a cursor is given to run it, which this connection knows from here on."""
        database = _database()
        bound = {name: one.bound(values[name], database) for name, one in self._given.items()}
        if database.vendor != "postgresql" or not settings.DATABASE_PREPARES:
            given = (bound[one.name] if isinstance(one, Given) else one for one in self.params)
            return self.sql, list(given)
        ready = _ready.setdefault(database.connection, set())
        if self._name not in ready:
            with database.wrap_database_errors:
                database.connection.execute(f"PREPARE {self._name} AS {self._text}")
            ready.add(self._name)
        return self._execute, list(bound.values())

    @cached_property
    def _execute(self) -> str:
        return f"EXECUTE {self._name} ({', '.join(['%s'] * len(self._given))})"

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


def _database() -> Any:
    """The connection itself: `connection` looks for it again at each of its attributes."""
    return connections[DEFAULT_DB_ALIAS]


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
        with _database().cursor() as cursor:
            self.prepared.execute(cursor, **values)
            return self.read(cursor)

    def first(self, **values: Any) -> M | None:
        return next(iter(self.all(**values)), None)

    def read(self, cursor: Any) -> list[M]:
        """The rows that it found."""
        statement = self._statement
        return [statement.model(row) for row in statement.rows(cursor)]

    @property
    def prepared(self) -> Prepared:
        return self._statement.prepared

    @property
    def _statement(self) -> _Statement:
        kind = _database().vendor
        statement = self._statements.get(kind)
        if statement is None:
            statement = self._statements[kind] = _Statement(self._build())
        return statement


Step = tuple[Prepared | Compiled[Any], Mapping[str, Any]]


def together(*steps: Step) -> list[list[Any]]:
    """Run statements one after the other, on PostgreSQL in one trip to the server; of each the rows
    that it asks for. Each sees what those before it did, and what others had committed when its own
    turn came: a lock that the first waits for holds for the second."""
    database = _database()
    with database.cursor() as cursor:
        if database.vendor != "postgresql" or len(steps) < 2:
            return [_one(cursor, step) for step in steps]
        calls = [_prepared(what).ready(values) for what, values in steps]
        sql = "; ".join(text for text, _ in calls)
        cursor.execute(sql, [value for _, given in calls for value in given])
        found = []
        for at, (what, _) in enumerate(steps):
            if at:
                cursor.nextset()
            found.append(_rows(cursor, what))
        return found


def _one(cursor: Any, step: Step) -> list[Any]:
    what, values = step
    _prepared(what).execute(cursor, **values)
    return _rows(cursor, what)


def _prepared(what: Prepared | Compiled[Any]) -> Prepared:
    return what.prepared if isinstance(what, Compiled) else what


def _rows(cursor: Any, what: Prepared | Compiled[Any]) -> list[Any]:
    return what.read(cursor) if isinstance(what, Compiled) else []


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
        with _database().cursor() as cursor:
            self._insert.execute(cursor, **values)
        row._state.adding, row._state.db = False, connection.alias
        return row

    def update(self, row: M, names: tuple[str, ...]) -> None:
        """Store these fields of a row that is known to be there."""
        together(self.updating(row, names))

    def updating(self, row: M, names: tuple[str, ...]) -> Step:
        """`update`, to be run with others."""
        if names not in self._updates:
            fields = [field for field in self._fields if field.name in names]
            told = ", ".join(f'"{field.column}" = %s' for field in fields)
            given = [Given(field.attname, field) for field in (*fields, self._key)]
            self._updates[names] = Prepared(self._update % told, given)
        values = {field.attname: getattr(row, field.attname) for field in self._fields}
        return self._updates[names], values


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

    def rows(self, cursor: Any) -> list[list[Any]]:
        rows = [list(row) for row in cursor.fetchall()]
        database = _database()
        for row in rows:
            for at, (converters, column) in self.converters.items():
                for convert in converters:
                    row[at] = convert(row[at], column, database)
        return rows

    def model(self, row: list[Any]) -> Any:
        found = self.kind.from_db(self.db, self.names, row[self.first : self.end])
        for related in self.related:
            related.populate(row, found)
        for name, at in self.annotations.items():
            setattr(found, name, row[at])
        return found
