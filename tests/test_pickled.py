"""The notebook's own classes after a restart: real new interpreters, one keeps, the next one loads (DESIGN 5, "Classes")."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nbstep.cache.classes import class_fingerprint

PRELUDE = """
import sys
from nbstep.cache.cache import Cache
from nbstep.cache.records import Facts
from nbstep.result import Err, Ok
from nbstep.stores.base import run_now
cache = Cache(sys.argv[1])
def keep(key, result):
    kept = run_now(cache.keep(key, result, Facts(took_s=0.1)))
    assert type(kept).__name__ == "Kept", kept
def load(key):
    found = run_now(cache.look_up(key))
    assert type(found).__name__ == "Hit", found
    return found.load()
"""

CLASSES = """
import dataclasses, enum, functools, math, pydantic
SCALE = 3
class Plain:
    "A docstring."
    def __init__(self, x): self.x = x
    def area(self): return self.x * SCALE
@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    def norm(self): return math.hypot(self.x, self.y)
@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    name: str
class Colour(enum.Enum):
    RED = 1
    BLUE = "b"
class Base: pass
class Derived(Base):
    items = [1, 2]
    @property
    def two(self): return 2
    @staticmethod
    def three(): return 3
    class Inner: pass
class MyError(Exception):
    def __init__(self, code, *, detail):
        super().__init__(f"code {code}")
        self.code, self.detail = code, detail
def double(x): return x * 2 * SCALE
def logged(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args)
    return wrapper
class Model(pydantic.BaseModel):
    x: int
    colour: Colour = Colour.RED
    sub: "Model | None" = None
    tags: list[str] = pydantic.Field(default_factory=list)
    @pydantic.field_validator("x")
    @classmethod
    def check(cls, x): return x * 1
class Decorated:
    def __init__(self, x): self.x = x
    @functools.cached_property
    def cached(self): return self.x + 1
    @functools.lru_cache
    def remembered(self): return 5
    @logged
    def told(self, *, again=1): return self.x
@functools.lru_cache(maxsize=7)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
"""

KEEP = """
objects = [Plain(2), Point(3, 4), Slotted("s"), Colour.RED, Colour.BLUE, Derived(), Derived.Inner()]
keep("values", Ok([*objects, double, lambda x: x + SCALE, Point]))
keep("model", Ok(Model(x=1, sub=Model(x=2))))
used = Model(x=3); used.tags.append("a"); used.x = 4; Model.model_json_schema()
keep("used", Ok(used))
decorated = Decorated(1); decorated.cached; decorated.remembered()
keep("decorated", Ok(decorated))
keep("fib", Ok(fib))
keep("errors", Ok([MyError(9, detail=Point(1)), ValueError("x"), 1]))
keep("error", Err(MyError(7, detail=Colour.RED)))
keep("group", Err(ExceptionGroup("g", [MyError(8, detail=None)])))
"""


def python(directory: Path, *code: str) -> str:
    source = "\n".join(textwrap.dedent(part) for part in (PRELUDE, *code))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source, str(directory)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    python(tmp_path / "c", CLASSES, KEEP)
    return tmp_path / "c"


def test_the_same_classes_defined_again_are_the_classes_of_what_is_loaded(kept: Path) -> None:
    check = """
    plain, point, slotted, red, blue, derived, inner, fn, lam, cls = load("values")
    assert type(plain) is Plain and plain.area() == 6
    assert type(point) is Point and point == Point(3, 4) and point.norm() == 5
    assert type(slotted) is Slotted and slotted == Slotted("s")
    assert red is Colour.RED and blue is Colour.BLUE
    assert isinstance(derived, Base) and type(derived) is Derived and derived.two == 2
    assert type(inner) is Derived.Inner
    assert fn(2) == 12 and lam(1) == 4
    assert cls is Point
    """
    python(kept, CLASSES, check)


def test_classes_that_libraries_write_to_are_recognized_too(kept: Path) -> None:
    check = """
    assert type(load("model")) is Model and load("model") == Model(x=1, sub=Model(x=2))
    assert type(load("used")) is Model and load("used") == Model(x=4, tags=["a"])
    decorated = load("decorated")
    assert type(decorated) is Decorated and vars(decorated) == {"x": 1, "cached": 2} and decorated.remembered() == 5
    """
    python(kept, CLASSES, check)
    python(kept, CLASSES, "Model(x=1).x = 2\nModel.model_json_schema()", check)


@pytest.mark.parametrize(
    ("then", "now", "key"),
    [
        ("def check(cls, x): return x * 1", "def check(cls, x): return x * 2", "model"),
        ('sub: "Model | None" = None', 'sub: "Model | None" = None\n    more: int = 0', "model"),
        ("default_factory=list", "default_factory=lambda: []", "model"),
        ("return self.x + 1", "return self.x + 2", "decorated"),
        ("return 5", "return 6", "decorated"),
        ("again=1", "again=2", "decorated"),
    ],
)
def test_such_a_class_that_changed_is_not_used(kept: Path, then: str, now: str, key: str) -> None:
    assert then in CLASSES
    python(kept, CLASSES.replace(then, now), f"assert type(load('{key}')) not in (Model, Decorated)")


def test_functions_that_remember_their_results_come_back_by_value(kept: Path) -> None:
    check = """
    fib = load("fib")
    assert fib(30) == 832040 and fib.cache_info().maxsize == 7 and fib.cache_info().misses > 1
    assert load("decorated").remembered() == 5 and load("decorated").cached == 2
    """
    python(kept, check)
    python(kept, CLASSES.replace("return n if n < 2", "return -1 if n < 2"), check)


def test_e4_errors_among_values_come_back_as_kept_errors_do(kept: Path) -> None:
    check = """
    own, builtin, one = load("errors")
    assert (type(own), own.code, own.detail, str(own)) == (MyError, 9, Point(1), "code 9")
    assert (type(builtin), builtin.args, one) == (ValueError, ("x",), 1)
    """
    python(kept, CLASSES, check)
    python(
        kept,
        """
    own, builtin, one = load("errors")
    assert (type(own).__name__, own.code, str(own)) == ("MyError", 9, "code 9")
    """,
    )


def test_values_load_where_no_class_is_defined(kept: Path) -> None:
    check = """
    plain, point, slotted, red, blue, derived, inner, fn, lam, cls = load("values")
    assert plain.area() == 6 and point.norm() == 5 and slotted.name == "s"
    assert red.name == "RED" and type(red)(1) is red
    assert derived.three() == 3 and fn(2) == 12 and point == cls(3, 4)
    """
    python(kept, check)


def test_a_class_that_changed_is_not_used_for_what_was_kept_before(kept: Path) -> None:
    changed = (
        CLASSES.replace("return self.x * SCALE", "return -1")
        .replace("RED = 1", "RED = 2")
        .replace("y: int = 0", "y: int = 9")
    )
    check = """
    plain, point, slotted, red, *rest = load("values")
    assert type(plain) is not Plain and plain.area() == 6
    assert type(point) is not Point
    assert type(slotted) is Slotted
    assert red is not Colour.RED and red.value == 1
    """
    python(kept, changed, check)


def test_comments_docstrings_and_places_do_not_change_a_class(kept: Path) -> None:
    moved = "\n\n# moved down\n" + CLASSES.replace('"A docstring."', '"Another docstring."').replace(
        "items = [1, 2]", "items = [1, 2]  # two"
    )
    python(
        kept,
        moved,
        'plain, *_, derived, inner, fn, lam, cls = load("values")\nassert type(plain) is Plain and type(derived) is Derived',
    )


def test_errors_are_always_rebound_by_name(kept: Path) -> None:
    changed = CLASSES.replace('super().__init__(f"code {code}")', "super().__init__()")
    check = """
    try:
        raise load("error").error
    except MyError as error:
        assert (error.code, error.detail, str(error)) == (7, Colour.RED, "code 7")
    try:
        raise load("group").error
    except* MyError as group:
        assert group.exceptions[0].code == 8
    """
    python(kept, changed, check)


def test_an_error_whose_class_is_not_defined_keeps_name_text_and_attributes(kept: Path) -> None:
    check = """
    error = load("error").error
    assert (type(error).__name__, type(error).__module__, str(error), error.code) == ("MyError", "__main__", "code 7", 7)
    assert isinstance(error, Exception)
    """
    python(kept, check)


def test_a_redefined_class_in_one_kernel_is_the_one_used(tmp_path: Path) -> None:
    check = """
    keep("p", Ok(Point(1, 2)))
    keep("e", Err(MyError(1, detail=None)))
    """
    again = """
    assert type(load("p")) is Point and type(load("e").error) is MyError
    """
    python(tmp_path / "c", CLASSES, check, CLASSES, again)


def test_what_was_kept_before_a_cell_changed_keeps_its_classes_in_that_kernel_too(tmp_path: Path) -> None:
    changed = CLASSES.replace("return self.x * SCALE", "return -1").replace("RED = 1", "RED = 2")
    changed = changed.replace("return x * 2 * SCALE", "return -1").replace("y: int = 0", "y: int = 9")
    changed = changed.replace('super().__init__(f"code {code}")', "super().__init__()")
    check = """
    plain, point, slotted, red, blue, derived, inner, fn, lam, cls = load("values")
    assert type(plain) is not Plain and plain.area() == 6
    assert type(point) is cls is not Point and point == cls(3, 4)
    assert red.value == 1 and red is load("values")[3] is not Colour.RED
    assert type(slotted) is Slotted and type(derived) is Derived
    assert fn(2) == 12 and lam(1) == 4
    assert type(load("error").error) is MyError and load("error").error.code == 7
    """
    python(tmp_path / "c", CLASSES, KEEP, changed, check)
    python(
        tmp_path / "d",
        CLASSES,
        KEEP,
        changed,
        check,
        CLASSES,
        """
    plain, point, slotted, red, *rest = load("values")
    assert (type(plain), type(point), red) == (Plain, Point, Colour.RED)
    """,
    )


def test_fingerprints_are_the_same_in_every_process(kept: Path, tmp_path: Path) -> None:
    show = """
    from nbstep.cache.classes import class_fingerprint
    Plain.__hash__, pickle_once = Plain.__hash__, __import__("pickle").dumps
    print([class_fingerprint(c) for c in (Plain, Point, Slotted, Colour, Derived, MyError)])
    """
    use_first = "import copy; copy.copy(Plain(1)); copy.copy(Point(1)); Point.__doc__; isinstance(1, Base)"
    assert python(kept, CLASSES, show) == python(kept, CLASSES, use_first, show)


def test_an_error_class_made_inside_a_function_is_caught_in_the_same_process(tmp_path: Path) -> None:
    check = """
    def make():
        class Local(Exception): pass
        return Local
    Local = make(); Other = make()
    keep("e", Err(Local("x")))
    assert type(load("e").error) is Local
    """
    python(tmp_path / "c", check)
    python(tmp_path / "c", 'error = load("e").error\nassert type(error).__name__ == "Local" and str(error) == "x"')


def test_code_of_the_notebooks_error_classes_is_not_written(tmp_path: Path) -> None:
    define = """
    HEADERS = {"X-Team": "global-secret-1"}
    class ApiError(Exception):
        default = {"authorization": "class-secret-2"}
        def again(self): return HEADERS, "constant-secret-3"
    keep("e", Err(ApiError("x")))
    """
    python(tmp_path / "c", define)
    written = b"".join(path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file())
    assert b"ApiError" in written
    assert b"-secret-" not in written


def test_a_class_is_told_apart_by_what_the_user_wrote() -> None:
    def make(body: str) -> type:
        names: dict[str, object] = {"__name__": "__main__"}
        exec(f"class C:\n    {body}", names)
        return names["C"]  # type: ignore[return-value]

    bodies = [
        "x = 1",
        "x = 2",
        "x = '1'",
        "def f(self): return 1",
        "def f(self): return 2",
        "f = lambda self: 'a'",
        "f = lambda self: 'b'",
        "x = {1, 2, 3}",
    ]
    marks = [class_fingerprint(make(body)) for body in bodies]
    assert len(set(marks)) == len(bodies)
    assert class_fingerprint(make("def f(self):\n        'doc'\n        return 1")) == marks[3]
    asked = make("x = 1")
    assert asked.__annotations__ == {}, "Python may keep the empty dict on the class from now on"
    assert class_fingerprint(asked) == marks[0]


STATE = """
class Counted:
    made = 0
    all = []
    memo = {}
    def __init__(self): Counted.made += 1; Counted.all.append(1); Counted.memo[1] = 2; Counted.client = object()
    def f(self, seen=[]): seen.append(1)
def counting(function):
    calls = 0
    def wrapper(*args):
        nonlocal calls
        calls += 1
        return function(*args)
    return wrapper
class Told:
    @counting
    def f(self): return 1
def is_counted(value): return type(value) is Counted
"""


def test_a_class_that_only_its_use_changed_is_still_the_notebooks_own(tmp_path: Path) -> None:
    """Counters, registries, memos and what is made when first needed are no edits: `isinstance` holds (DESIGN 5, "Classes")."""
    keep = """
    counted, told = Counted(), Told()
    counted.f(); told.f()
    keep("values", Ok([counted, told]))
    keep("function", Ok(is_counted))
    """
    check = """
    counted, told = load("values")
    assert (type(counted), type(told)) == (Counted, Told)
    assert load("function")(counted)
    """
    python(tmp_path / "c", STATE, keep, "Counted(); Told().f()", check)
    python(tmp_path / "c", STATE, check)
    python(tmp_path / "c", STATE, "Counted(); Counted(); Counted().f(); Told().f()", check)


def test_a_class_that_is_the_value_itself_brings_what_was_set_on_it(tmp_path: Path) -> None:
    define = """
    import numpy as np
    class Settings:
        weights = np.zeros(3)
        tables = []
        rate = 1
        def learn(self): Settings.rate = 2
    """
    keep = """
    Settings.weights = np.arange(3.0)
    Settings().learn()
    keep("class", Ok(Settings))
    Settings.weights[2] = 5
    keep("changed in place", Ok(Settings))
    Settings.tables.append(1)
    keep("container", Ok({"settings": Settings}))
    """
    check = """
    assert (list(load("class").weights), load("class").rate) == ([0, 1, 2], 2)
    assert list(load("changed in place").weights) == [0, 1, 5]
    assert load("container")["settings"].tables == [1]
    """
    python(tmp_path / "c", define, keep)
    python(tmp_path / "c", define, check)
    python(tmp_path / "c", define, "keep('same', Ok(Settings))\nassert load('same') is Settings")
    python(tmp_path / "c", define, "assert load('same') is Settings")


PARTS = """
import datetime, functools, re
class Meta(type):
    def one(cls): return 1
class Descriptor:
    def __get__(self, value, owner): return 1
def times(factor):
    def decorate(function): return lambda self: factor * function(self)
    return decorate
class Whole(metaclass=Meta):
    class Inner:
        def f(self): return 1
    described = Descriptor()
    pattern = re.compile("a+")
    day = datetime.date(2020, 1, 1)
    join = ",".join
    def get(self, n): return n
    got = functools.partialmethod(get, 1)
    @times(2)
    def f(self): return 1
    def late(self, until=datetime.date(2020, 5, 5)): return until
"""


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ("def one(cls): return 1", "def one(cls): return 2"),
        ("def __get__(self, value, owner): return 1", "def __get__(self, value, owner): return 2"),
        ("    def f(self): return 1\n    described", "    def f(self): return 2\n    described"),
        ("a+", "b+"),
        ("2020, 1, 1", "2021, 1, 1"),
        ('",".join', '";".join'),
        ("partialmethod(get, 1)", "partialmethod(get, 2)"),
        ("@times(2)", "@times(3)"),
        ("2020, 5, 5", "2021, 5, 5"),
    ],
)
def test_a_class_whose_parts_changed_is_not_used(tmp_path: Path, then: str, now: str) -> None:
    assert then in PARTS
    python(tmp_path / "c", PARTS, 'keep("whole", Ok(Whole()))')
    python(tmp_path / "c", PARTS, 'assert type(load("whole")) is Whole')
    python(tmp_path / "c", PARTS.replace(then, now), 'assert type(load("whole")) is not Whole')
