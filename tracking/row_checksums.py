"""Guards the rows of store.db: each carries a checksum of its columns, and each run a sum over its edges.

SQLite finds damage to its own structure, but not a value that was altered, nor a row that was deleted. The checksums
are set by triggers of the connection that writes (`triggers`), so that no write can forget them. They show damage, but
not an attack by someone who computes them anew.
"""

import hashlib

# The guarded tables: their columns, and which of these make up the primary key. A run's heartbeat is not guarded: it
# changes with every edge and decides nothing once the run has ended. Nor is the mark of its process.
GUARDED = {
    "runs": (
        ("id", "job_type", "name", "group_name", "state", "config", "summary", "tags", "code_version")
        + ("started", "ended", "host", "pid", "error"),
        ("id",),
    ),
    "history": (("run", "step", "point"), ("run", "step")),
    "collections": (("name", "type"), ("name",)),
    "versions": (("id", "name", "version", "digest", "metadata", "created"), ("id",)),
    "files": (("artifact", "name", "size", "md5"), ("artifact", "name")),
    "aliases": (("name", "alias", "artifact"), ("name", "alias")),
    "edges": (("kind", "run", "artifact"), ("kind", "run", "artifact")),
    "media": (("run", "key", "kind", "content", "size", "md5"), ("run", "key")),
}


def row_checksum(*values: bytes | int | float | None) -> str:
    """Returns the checksum of a row's values, 32 hex digits; texts come as their bytes."""
    md5 = hashlib.md5(usedforsecurity=False)
    for value in values:
        content = value if isinstance(value, bytes) else repr(value).encode()
        md5.update(f"{type(value).__name__} {len(content)}:".encode() + content)
    return md5.hexdigest()


def toggle_checksum(total: str, checksum: str) -> str:
    """Returns a sum of checksums with one more in it, or without one that was in it: the order does not matter."""
    return f"{int(total or '0', 16) ^ int(checksum, 16):032x}"


def checksum_sql(table: str, prefix: str = "") -> str:
    """Returns the SQL expression of a row's checksum; `prefix` is an alias of the table with its dot, such as `r.`."""
    # Text as bytes: text that is damaged may be no UTF-8.
    values = (
        f"CASE typeof({prefix}{column}) WHEN 'text' THEN CAST({prefix}{column} AS BLOB) ELSE {prefix}{column} END"
        for column in GUARDED[table][0]
    )
    return f"row_checksum({', '.join(values)})"


def edge_checksum_sql(edge: str) -> str:
    """Returns the SQL expression by which an edge counts in its run's sum; `edge` is the row, such as `NEW`."""
    version = f"FROM versions v WHERE v.id = {edge}.artifact"
    text = f"{edge}.kind || ' ' || (SELECT v.name || ':v' || v.version {version})"
    return f"row_checksum(CAST(coalesce({text}, '') AS BLOB))"


def triggers() -> list[str]:
    """Returns the statements that make a connection set the checksums of all that it writes."""
    statements = []
    for table, (columns, key) in GUARDED.items():
        row = " AND ".join(f"{column} = NEW.{column}" for column in key)
        seal = f"BEGIN UPDATE {table} SET checksum = {checksum_sql(table)} WHERE {row}; END"
        for event, name in (("INSERT", "insert"), (f"UPDATE OF {', '.join(columns)}", "update")):
            statements.append(f"CREATE TEMP TRIGGER seal_{table}_{name} AFTER {event} ON main.{table} {seal}")
    for event, edge in (("INSERT", "NEW"), ("DELETE", "OLD")):
        statements.append(
            f"CREATE TEMP TRIGGER sum_edges_{event} AFTER {event} ON main.edges BEGIN UPDATE runs SET "
            f"edges = toggle_checksum(edges, {edge_checksum_sql(edge)}) WHERE id = {edge}.run; END"
        )
    return statements
