from pathlib import Path

import toolz

bottles = toolz.count(Path(__file__).with_name("bottles.txt").read_text().split())


def main():
    print(bottles)
