import click
import msgpack


def packed() -> bytes:
    return msgpack.packb("meadow")


def main() -> None:
    click.echo("meadow")
