"""Small models are asked for commands as commands, and for new file names as a list."""

from __future__ import annotations

from pathlib import Path

import pytest
from desk import Desk
from scripted import Call, Say

from orchestrator.nodes import filenames
from orchestrator.nodes.oneliners import call, form_of, recipes
from orchestrator.nodes.shellslips import mended

SMALL = {"size": "small", "tool_calls": "json"}
BOTH = ["run_command", "run_python"]


def bash(command: str) -> Say:
    return Say(f"Here it is:\n\n```bash\n{command}\n```\n")


def test_a_count_is_asked_for_as_a_command(desk: Desk) -> None:
    desk.write("a.py", "")
    desk.write("lib/b.py", "")
    script = [bash("find . -name '*.py' | wc -l"), Call("finish", answer="There are 2.")]
    turn = desk.work("@coder how many Python files are there?", script, model=SMALL)
    assert turn.answer == "There are 2."
    assert "The files here:\na.py\nlib/b.py" in turn.requests[0].last
    assert "find . -type f -name '*.py' | wc -l" in turn.requests[0].last
    assert turn.of("tool_intent")[0].fields["arguments"]["command"] == "find . -name '*.py' | wc -l"


def test_a_command_that_changes_nothing_is_followed_by_a_program(desk: Desk) -> None:
    desk.write("names.txt", "b\na\n")
    program = "rows = sorted(open('names.txt'))\nopen('names.txt', 'w').writelines(rows)"
    script = [bash("sort names.txt"), Say(f"```python\n{program}\n```"), Call("finish", answer="sorted")]
    turn = desk.work("@coder sort the lines of names.txt", script, model=SMALL, approves=True)
    assert "Python program" in turn.requests[1].last
    assert (desk.text("names.txt"), turn.answer) == ("a\nb\n", "sorted")


def test_a_large_table_is_shown_by_its_first_lines(desk: Desk) -> None:
    desk.write("sales.csv", "day,amount\n" + "mon,1\n" * 3_000)
    program = "print(sum(int(row.split(',')[1]) for row in open('sales.csv').read().splitlines()[1:]))"
    script = [Say(f"```python\n{program}\n```"), Call("finish", answer="The sum is 3000.")]
    turn = desk.work(
        "@coder what is the sum of the amounts in sales.csv?", script, model=SMALL, approves=True
    )
    assert turn.of("tool_intent")[0].fields["arguments"] == {"path": "sales.csv", "limit": 5}
    assert "sales.csv begins with:\nday,amount\nmon,1\n" in turn.requests[0].last
    assert len(turn.requests[0].last) < 600
    assert turn.answer == "The sum is 3000."


def test_a_command_that_meets_our_own_records_says_nothing_of_them(desk: Desk) -> None:
    desk.write("void.txt", "")
    found = "find . -empty -delete; find . -type d -empty -exec rm -rf {} +; rm nothing"
    script = [bash(found), Call("finish", answer="void.txt is deleted")]
    turn = desk.work("@coder delete all empty files and folders", script, model=SMALL, approves=True)
    result = turn.of("tool_result")[0].fields["text"]
    assert "'nothing': No such file" in result
    assert ".orc" not in result
    assert not (desk.root / "void.txt").exists()


def test_an_answer_without_code_leaves_the_task_to_the_tools(desk: Desk) -> None:
    desk.write("names.txt", "b\na\n")
    script = [Say("b, a"), Call("run_command", command="wc -l < names.txt"), Call("finish", answer="2")]
    turn = desk.work("@coder how many lines has names.txt?", script, model=SMALL)
    assert turn.answer == "2"


def test_large_models_are_asked_as_before(desk: Desk) -> None:
    desk.write("names.txt", "b\na\n")
    script = [Call("run_command", command="wc -l < names.txt"), Say("2")]
    assert desk.work("@coder how many lines has names.txt?", script).answer == "2"


@pytest.mark.parametrize(
    "goal",
    [
        "write count.py that counts the words of a file",
        "change the port in server.ini to 90",
        "test_a.py fails, repair it",
        "rename the function total to add_up in all files",
        "how many days of leave are there, according to the handbook?",
        "merge the two components that do the same",
        "what is a monad?",
    ],
)
def test_other_tasks_are_no_work_for_a_command(goal: str, tmp_path: Path) -> None:
    (tmp_path / "server.ini").write_text("port = 80\n")
    assert form_of(goal, [], tmp_path, BOTH) is None


def test_a_table_that_is_to_be_changed_is_first_asked_for_in_python(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,age\n")
    assert form_of("sort a.csv by age", [], tmp_path, BOTH) == "python"
    assert form_of("sort a.csv by age", [], tmp_path, ["run_command"]) == "shell"
    assert form_of("sort a.csv by age", [], tmp_path, ["read_file"]) is None


def test_who_searches_the_web_counts_only_what_is_here(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("# TODO\n")
    tools = ["search_docs", *BOTH, "web_search"]
    assert form_of("how many TODO comments are below src?", [], tmp_path, tools) == "shell"
    assert form_of("how many files are in this folder?", [], tmp_path, tools) == "shell"
    assert form_of("how many people live in Rome?", [], tmp_path, tools) is None


def test_the_nearest_recipes_come_first() -> None:
    near = recipes("remove the duplicate lines of a.txt, the order has to stay")
    assert near[0][1].startswith("awk '!seen[$0]++'")
    assert recipes("which Linux distribution is it?")[0][1] == "grep PRETTY_NAME /etc/os-release"
    assert recipes("xyzzy") == []


def made(command: str, root: Path) -> str | None:
    message = call(f"```bash\n{command}\n```", "shell", "do it", root)
    return str(message.tool_calls[0]["args"]["command"]) if message else None


def test_a_command_that_empties_what_it_reads_is_none(tmp_path: Path) -> None:
    assert made("sort -u a.txt > a.txt", tmp_path) is None
    assert made("grep x < a.txt | sort > a.txt", tmp_path) is None
    assert made("sort -u a.txt > b.txt", tmp_path) == "sort -u a.txt > b.txt"
    assert made("sort a.txt > a.new && mv a.new a.txt", tmp_path) == "sort a.txt > a.new && mv a.new a.txt"
    assert made("cat a.txt >> data.txt", tmp_path) == "cat a.txt >> data.txt"


def test_a_folder_to_move_files_to_is_made(tmp_path: Path) -> None:
    assert made("mv *.png images/", tmp_path) == "mkdir -p images && mv *.png images/"
    (tmp_path / "images").mkdir()
    assert made("mv *.png images/", tmp_path) == "mv *.png images/"


def test_tables_are_written_with_the_line_ends_of_this_machine(tmp_path: Path) -> None:
    message = call("```python\nimport csv\ncsv.writer(file)\n```", "python", "do it", tmp_path)
    assert message is not None
    assert 'csv.writer(file, lineterminator="\\n")' in message.tool_calls[0]["args"]["code"]


def test_new_names_are_asked_for_as_a_list(desk: Desk) -> None:
    for name in ("A.TXT", "my notes.TXT", "d.md"):
        desk.write(name, name)
    script = [Say("1. A.txt\n2. my_notes.txt"), Call("finish", answer="renamed")]
    turn = desk.work("@coder Rename all .TXT files to .txt", script, model=SMALL)
    assert turn.requests[0].last == "Task: Rename all .TXT files to .txt\n\n1. A.TXT\n2. my notes.TXT"
    assert turn.answer == "renamed"
    assert sorted(path.name for path in desk.root.iterdir() if path.suffix) == [
        "A.txt",
        "d.md",
        "my notes.txt",
    ]


def renamed(goal: str, names: list[str], answer: str) -> str | None:
    message = filenames.call(answer, goal, names)
    return str(message.tool_calls[0]["args"]["command"]) if message else None


def test_only_what_the_task_speaks_of_changes_in_a_name() -> None:
    names = ["docs/My File.htm"]
    assert renamed("give them the ending .html", names, "1. my_file.html") == (
        "mv -n -- 'docs/My File.htm' 'docs/My File.html'"
    )
    assert renamed("no blanks in the names", names, "1. My-File.htm") == (
        "mv -n -- 'docs/My File.htm' docs/My-File.htm"
    )


@pytest.mark.parametrize(
    "answer", ["", "1. a.txt", "1. c.txt\n2. c.txt", "1. b.txt\n2. b2.txt", "1. a.txt\n2. b.txt"]
)
def test_a_list_that_would_lose_a_file_or_changes_none_is_no_call(answer: str) -> None:
    assert renamed("rename them", ["a.txt", "b.txt"], answer) is None


def test_renaming_is_about_the_files_that_are_meant(tmp_path: Path) -> None:
    for name in ("a.md", "b.txt", "c.md", "old.log"):
        (tmp_path / name).write_text("x")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "d.md").write_text("x")

    def meant(goal: str) -> list[str]:
        return filenames.to_rename(goal, [], tmp_path)

    assert meant("Add the prefix x_ to the names of all .md files, rename them") == [
        "a.md",
        "c.md",
        "docs/d.md",
    ]
    assert meant("rename b.txt to c.txt") == ["b.txt"]
    assert meant("rename the markdown files in docs") == ["docs/d.md"]
    assert meant("rename the log files") == ["old.log"]
    assert meant("rename the column a to b in a.md") == []
    assert meant("rename the function f to g") == []


@pytest.mark.parametrize(
    ("goal", "command", "wanted"),
    [
        (
            "remove all files ending in ~ or .bak",
            "find . -type f -name '*~' -o -name '*.bak' -exec rm {} \\;",
            "find . -type f \\( -name '*~' -o -name '*.bak' \\) -exec rm {} \\;",
        ),
        (
            "how many lines do the .txt files in notes have?",
            "find notes -type f -exec wc -l {} +",
            "find notes -type f -name '*.txt' -exec wc -l {} +",
        ),
        (
            "sort prices.txt, the highest first, and save the file",
            "sort -rn prices.txt > out.txt",
            "sort -rn prices.txt > out.txt && mv out.txt prices.txt",
        ),
    ],
)
def test_common_slips_in_commands_are_mended(goal: str, command: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "prices.txt").write_text("1\n")
    assert mended(command, goal, tmp_path) == wanted
    assert mended(wanted, goal, tmp_path) == wanted


@pytest.mark.parametrize(
    ("goal", "command"),
    [
        ("sort prices.txt into a new file", "sort prices.txt > out.txt"),
        ("sort prices.txt and save it as out.txt", "sort prices.txt > out.txt"),
        ("how many prices are there?", "sort prices.txt > out.txt"),
        ("how many .txt files are there?", "find . -type f -name '*.txt' | wc -l"),
        ("how many files are there?", "find . -type f | wc -l"),
        ("count .txt and .md files", "find . -type f | wc -l"),
        ("list the files named a or b", "find . -name 'a' -o -name 'b'"),
        ("delete what is empty", "find . -type f -empty -delete"),
    ],
)
def test_commands_that_are_right_stay(goal: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "prices.txt").write_text("1\n")
    assert mended(command, goal, tmp_path) == command
