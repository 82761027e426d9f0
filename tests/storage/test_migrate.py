"""Every file comes to the newest schema of its branch, whoever else is at it, and no other."""

from __future__ import annotations

import importlib.util
import io
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from gatepost.storage.errors import SchemaMismatch, StorageDamaged, StorageFull
from gatepost.storage.migrate import BRANCHES, MIGRATIONS, Branch, migrate, newest_version
from gatepost.storage.sqlite import connect
from gatepost.storage.upgrade import scripts, upgrade

TABLES = {
    "directory": {"domain", "account", "credential", "forward", "forward_target"},
    "queue": {"message", "job"},
}


def tables(path: Path) -> set[str]:
    connection = connect(path)
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    return found


def run(path: Path, sql: str) -> None:
    connection = connect(path)
    connection.execute(sql)
    connection.close()


@pytest.mark.parametrize("branch", BRANCHES)
def test_each_branch_makes_its_own_tables_and_only_those(tmp_path: Path, branch: Branch) -> None:
    path = tmp_path / "a.sqlite"
    migrate(path, branch)
    others = set().union(*(TABLES[other] for other in BRANCHES if other != branch))
    assert TABLES[branch] <= tables(path)
    assert not others & tables(path)
    before = path.read_bytes()
    migrate(str(path), branch)
    assert path.read_bytes() == before


def test_nothing_to_do_costs_nothing_and_imports_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    migrate(path, "directory")
    times = []
    for _ in range(20):
        start = time.perf_counter()
        migrate(path, "directory")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.002
    script = (
        "import sys; from gatepost.storage.migrate import migrate; migrate(sys.argv[1], 'directory'); "
        "import gatepost.directory.lookups; print(sorted({'alembic', 'sqlalchemy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_several_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    script = (
        "import sys, gatepost.storage.upgrade; from gatepost.storage.migrate import migrate; "
        "print('ready', flush=True); sys.stdin.readline(); migrate(sys.argv[1], 'directory')"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    assert TABLES["directory"] <= tables(path)


def test_a_newer_file_is_refused_and_both_versions_named(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    migrate(path, "directory")
    run(path, "UPDATE alembic_version SET version_num = 'directory_0999'")
    with pytest.raises(SchemaMismatch, match=rf"a\.sqlite: .*directory_0999.*{newest_version('directory')}"):
        migrate(path, "directory")


def test_a_file_of_another_branch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    migrate(path, "directory")
    with pytest.raises(SchemaMismatch, match="a directory database, but a queue database was expected"):
        migrate(path, "queue")
    assert "message" not in tables(path)


def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    run(path, "CREATE TABLE songs (title)")
    with pytest.raises(SchemaMismatch, match=r"not made by Gatepost .*songs"):
        migrate(path, "directory")
    path.write_text("not a database at all")
    with pytest.raises(StorageDamaged):
        migrate(path, "directory")


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.sqlite"

    def small(path: Path | str, **options: float) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA max_page_count = 6")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr("gatepost.storage.migrate.connect", small)
        with pytest.raises(StorageFull):
            migrate(path, "directory")
    assert tables(path) == set()
    migrate(path, "directory")
    assert TABLES["directory"] <= tables(path)


@pytest.mark.parametrize("branch", BRANCHES)
def test_scripts_are_numbered_as_their_names_say(branch: Branch) -> None:
    files = sorted((MIGRATIONS / branch).glob("[0-9]*.py"))
    down = None
    for number, file in enumerate(files, 1):
        assert file.name.startswith(f"{number:04}_")
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None and spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        assert script.revision == f"{branch}_{number:04}"
        assert script.down_revision == down
        assert script.branch_labels == ((branch,) if number == 1 else None)
        down = script.revision
    assert newest_version(branch) == down
    assert scripts().get_revisions(f"{branch}@head")[0].revision == down


@pytest.mark.parametrize("branch", BRANCHES)
def test_every_step_can_be_written_for_postgresql(branch: Branch) -> None:
    """Alembic's offline mode renders the SQL without a database to send it to."""
    text = io.StringIO()
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": text})
    with Operations.context(context):
        for script in reversed(list(scripts().iterate_revisions(f"{branch}@head", f"{branch}@base"))):
            assert script is not None
            script.module.upgrade()
    for name in TABLES[branch]:
        assert f"CREATE TABLE {name} (" in text.getvalue()


def test_scripts_are_modules_of_the_package() -> None:
    """What lies in a package is in the wheel."""
    for folder in (MIGRATIONS, *(MIGRATIONS / branch for branch in BRANCHES)):
        assert (folder / "__init__.py").is_file()
        assert {file.suffix for file in folder.iterdir() if file.is_file()} == {".py"}


def test_foreign_keys_hold_after_migration(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    migrate(path, "directory")
    connection = connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        connection.execute("INSERT INTO account VALUES (1, 99, 'a', 'a@b.test', 1, 1)")
    connection.close()


def test_one_database_may_hold_both_branches() -> None:
    """As PostgreSQL will: the version table then has a row for each."""
    engine = sqlalchemy.create_engine("sqlite://")
    for _ in range(2):
        for branch in BRANCHES:
            with engine.begin() as connection:
                upgrade(connection, branch)
    with engine.begin() as connection:
        versions = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalars()
        assert set(versions) == {newest_version(branch) for branch in BRANCHES}
        names = set(sqlalchemy.inspect(connection).get_table_names())
    engine.dispose()
    assert names >= TABLES["directory"] | TABLES["queue"]
