"""gatepost queue: what waits, and what is done about it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from gatepost.admin.queue_verbs import QueueVerbs, Verb, counted, listed_values, shown_values
from gatepost.cli.directory import json_option, say_json, tell
from gatepost.cli.house import House
from gatepost.config.values import WrongValue, parse_duration
from gatepost.mail.clock import SystemClock
from gatepost.mail.queue_id import BadQueueId, queue_number
from gatepost.queue.inspect import Change, ListedMessage, QueueFilter, QueueInspector
from gatepost.queue.records import Job, JobState, QueuedMessage
from gatepost.storage.errors import StorageError

Command = TypeVar("Command", bound=Callable[..., Any])

MAILQ_HEADING = "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------"
PREVIEW = 10  # messages shown before it is asked whether to delete


def read_id(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """A queue ID, as its number. Raises BadParameter."""
    try:
        return queue_number(value)
    except BadQueueId as error:
        raise click.BadParameter(str(error), ctx, param) from None


def read_ids(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    """Queue IDs, as their numbers. Raises BadParameter."""
    return tuple(read_id(ctx, param, value) for value in values)


def read_age(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """A duration, in seconds. Raises BadParameter."""
    try:
        return parse_duration(value)
    except WrongValue as error:
        raise click.BadParameter(str(error), ctx, param) from None


FILTERS = (
    click.option("--sender", default="", metavar="TEXT", help='Part of the sender, "@domain", or "<>" for bounces.'),
    click.option("--recipient", default="", metavar="TEXT", help='Part of a recipient, or "@domain".'),
    click.option("--next-hop", default="", metavar="HOP", help="Where it goes: host, route, or transport."),
    click.option("--state", type=click.Choice([state.value for state in JobState]), help="Where it stands."),
    click.option(
        "--older-than", callback=read_age, default="0", metavar="AGE", help='Arrived so long ago: "30m", "2d".'
    ),
    click.option("--reason", default="", metavar="TEXT", help="Part of the last reason for a deferral."),
)


def filtered(command: Command) -> Command:
    """The arguments and options that name messages."""
    for option in reversed(FILTERS):
        command = option(command)
    return click.argument("ids", nargs=-1, callback=read_ids, metavar="[ID]...")(command)


def filter_from(ids: tuple[int, ...], options: dict[str, Any]) -> QueueFilter:
    """What the arguments and options of `filtered` mean."""
    state = options.pop("state")
    return QueueFilter(frozenset(ids) if ids else None, state=JobState(state) if state else None, **options)


@click.group("queue")
def queue_group() -> None:
    """What waits, and what is done about it.

    Without an ID, all messages are meant that match the options; all options must match. A change touches the
    recipients that match, and a message is gone with its last recipient.
    """


@queue_group.command("list")
@filtered
@json_option
@click.option("--mailq", is_flag=True, help="As Postfix's mailq prints it.")
@click.pass_obj
def list_messages(house: House, /, ids: tuple[int, ...], as_json: bool, mailq: bool, **options: Any) -> None:
    """List messages in order of arrival."""
    with verbs_of(house) as verbs:
        found = verbs.messages(filter_from(ids, options))
        if as_json:
            say_json(house, map(listed_values, found))
        else:
            for line in mailq_lines(found) if mailq else table_lines(found, time.time()):
                house.say(line)


@queue_group.command("show")
@click.argument("number", callback=read_id, metavar="ID")
@click.option("--body", is_flag=True, help="Print the message itself, and nothing else.")
@json_option
@click.pass_obj
def show_message(house: House, number: int, body: bool, as_json: bool) -> None:
    """Show one message: envelope, recipients, header. Ends with 1 where it is not in the queue."""
    with verbs_of(house) as verbs:
        message = verbs.show(number)
        if message is None:
            raise click.ClickException("it is not in the queue; it was delivered, returned or deleted: see the log")
        if body:
            _print_body(message)
        elif as_json:
            say_json(house, [shown_values(message)])
        else:
            for line in shown_lines(message, time.time()):
                house.say(line)


@queue_group.command("retry")
@filtered
@click.option("--all", "everything", is_flag=True, help="All that waits.")
@click.pass_obj
def retry_messages(house: House, /, ids: tuple[int, ...], everything: bool, **options: Any) -> None:
    """Try again now. What is on hold stays there."""
    _change(house, "retry", chosen(ids, everything, options))


@queue_group.command("hold")
@filtered
@click.option("--all", "everything", is_flag=True, help="All that waits.")
@click.pass_obj
def hold_messages(house: House, /, ids: tuple[int, ...], everything: bool, **options: Any) -> None:
    """Put on hold: not tried, and not returned, until released."""
    _change(house, "hold", chosen(ids, everything, options))


@queue_group.command("release")
@filtered
@click.option("--all", "everything", is_flag=True, help="All that is on hold.")
@click.pass_obj
def release_messages(house: House, /, ids: tuple[int, ...], everything: bool, **options: Any) -> None:
    """Release from hold, and try now."""
    _change(house, "release", chosen(ids, everything, options))


@queue_group.command("delete")
@filtered
@click.option("--all", "everything", is_flag=True, help="All there is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete_messages(house: House, /, ids: tuple[int, ...], everything: bool, yes: bool, **options: Any) -> None:
    """Delete, and tell the sender nothing.

    Asks before it deletes what was not named by its ID.
    """
    which = chosen(ids, everything, options)
    if not ids and not yes:
        with verbs_of(house) as verbs:
            if not _may_delete(verbs.messages(which)):
                return
    _change(house, "delete", which)


def chosen(ids: tuple[int, ...], everything: bool, options: dict[str, Any]) -> QueueFilter:
    """What to change. That it is everything must be said."""
    which = filter_from(ids, options)
    if which.is_all and not everything:
        raise click.UsageError("say which: by ID, by an option, or --all")
    if everything and not which.is_all:
        raise click.UsageError("--all goes with no ID and no other option")
    return which


@contextmanager
def verbs_of(house: House) -> Iterator[QueueVerbs]:
    """The queue of a house. What goes wrong within ends the command with its text."""
    try:
        yield QueueVerbs(QueueInspector(house.home / "queue", SystemClock()), lambda ids: house.poke("queue", ids))
    except (StorageError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _change(house: House, verb: Verb, which: QueueFilter) -> None:
    with verbs_of(house) as verbs:
        done, _ = verbs.change(verb, which)
    tell(house, done)
    if done.notes:
        sys.exit(1)


def _may_delete(found: Iterable[ListedMessage]) -> bool:
    numbers, jobs = [], 0
    for message in found:
        numbers.append(message.number)
        jobs += len(message.jobs)
        if len(numbers) <= PREVIEW:
            recipients = ", ".join(str(job.recipient.address) for job in message.jobs)
            click.echo(f"{message.id}  {_sender(message.sender)} -> {recipients}", err=True)
        elif len(numbers) == PREVIEW + 1:
            click.echo("...", err=True)
    if not numbers:
        click.echo("Nothing matches.", err=True)
        return False
    return click.confirm(f"Delete {counted(Change(numbers, jobs))}?", err=True)


def _print_body(message: QueuedMessage) -> None:
    for chunk in message.body.chunks():
        sys.stdout.buffer.write(chunk)


# What people read


def table_lines(found: Iterable[ListedMessage], now: float) -> Iterator[str]:
    """Each message with a line for each recipient, and its last reason; at the end how many there were."""
    messages = jobs = size = 0
    for message in found:
        if not messages:
            yield f"{'Queue ID':<12}  {'Bytes':>9}  {'Arrived':<19}  Sender"
        messages, jobs, size = messages + 1, jobs + len(message.jobs), size + message.size
        yield f"{message.id}  {message.size:>9}  {_local(message.arrived_at)}  {_sender(message.sender)}"
        for job in message.jobs:
            yield from job_lines(job, now)
    yield f"{messages} messages, {jobs} recipients, {size} bytes" if messages else "Nothing of that kind is waiting."


def job_lines(job: Job, now: float) -> Iterator[str]:
    """One recipient, and its last reason."""
    state = f"{job.state.value:<7}"
    original = f" (for {job.original})" if job.original.key != job.recipient.address.key else ""
    yield f"    {state}  {job.recipient.address}{original} by {job.route}{_next_attempt(job, now)}"
    if job.last_reason:
        yield f"             {printable(job.last_reason)}"


def shown_lines(message: QueuedMessage, now: float) -> Iterator[str]:
    """Envelope, recipients, header."""
    envelope = message.envelope
    yield f"Queue ID: {message.id}"
    yield f"Arrived: {_local(message.arrived_at)}"
    yield f"Size: {message.body.size} bytes"
    yield f"Sender: {_sender(envelope.sender_text)}{' (a bounce of ours)' if message.is_bounce else ''}"
    yield f"Sent to: {', '.join(str(recipient.address) for recipient in envelope.recipients)}"
    wishes = {"BODY=8BITMIME": envelope.eight_bit, "SMTPUTF8": envelope.smtputf8}
    wishes |= {f"RET={envelope.ret}": bool(envelope.ret), f"ENVID={printable(envelope.envid)}": bool(envelope.envid)}
    if any(wishes.values()):
        yield f"With: {' '.join(word for word, given in wishes.items() if given)}"
    yield "Recipients:"
    for job in message.jobs:
        yield from job_lines(job, now)
    yield "Header:"
    for line in message.body.header.decode("utf-8", "replace").splitlines():
        yield f"    {printable(line)}"


def mailq_lines(found: Iterable[ListedMessage]) -> Iterator[str]:
    """As Postfix's `postqueue -p` prints long queue IDs, so that scripts made for it go on working."""
    count = size = 0
    for message in found:
        yield (
            f"{'----Queue ID-----':<17} {'--Size--':>8} {'---Arrival Time----':<19} --Sender/Recipient------"
            if not count
            else ""
        )
        count, size = count + 1, size + message.size
        states = {job.state for job in message.jobs}
        # Postfix has a mark for a whole message: "*" where it is being delivered, "!" on hold.
        mark = "*" if JobState.ACTIVE in states else "!" if states == {JobState.HOLD} else ""
        arrived = time.asctime(time.localtime(message.arrived_at))[:19]
        yield f"{message.id + mark:<17} {message.size:>8} {arrived:<19} {message.sender or 'MAILER-DAEMON'}"
        last_reason = ""
        for job in message.jobs:
            if job.last_reason != last_reason:
                last_reason = job.last_reason
                yield f"({printable(last_reason) or 'reason unavailable'})".rjust(78)
            yield f"{'':<17} {'':>8} {'':<19} {job.recipient.address}"
    if count:
        yield ""
        yield f"-- {size // 1024} Kbytes in {count} Request{'' if count == 1 else 's'}."
    else:
        yield "Mail queue is empty"


def printable(text: str) -> str:
    """One line without control characters: a stranger's words must not move the operator's cursor."""
    return "".join(character if character.isprintable() else " " if character in "\t\n" else "?" for character in text)


def _next_attempt(job: Job, now: float) -> str:
    attempts = f", {job.attempts} attempt{'' if job.attempts == 1 else 's'}"
    if job.state is not JobState.WAITING:
        return attempts if job.attempts else ""
    due = "now" if job.next_attempt_at <= now else _local(job.next_attempt_at)
    return f"{attempts}, next {due}"


def _sender(text: str) -> str:
    return text or "<>"


def _local(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
