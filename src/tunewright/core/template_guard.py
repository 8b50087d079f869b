"""Bound what a chat template may spend: time, the size of any one value, and how much it writes.

Jinja's sandbox keeps a template from Python's internals, but not from `'a' * 10**10` or from loops within
loops. Here every loop, call, filter, operator and printed value passes a budget that belongs to one render.
What a template within its budget writes is what plain Jinja writes, character for character.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextvars import ContextVar
from types import BuiltinMethodType
from typing import Any

from jinja2 import Template, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from tunewright.core.template_budget import (
    STEPS_A_LOOK,
    Budget,
    bounded_arguments,
    check_braces,
    check_filter,
    check_operator,
    refuse,
)

_EACH, _SAID, _WROTE, _KEPT, _MADE = "each item", "value said", "text written", "value kept", "value made"
"""Our own filters; no template can spell their names."""

_REFUSED_FILTERS = ("pprint", "random", "striptags", "urlize", "wordwrap")
"""Of unbounded cost, or of another result each time; chat templates have no use for them."""

_BUDGET: ContextVar[Budget] = ContextVar("template_budget")


class GuardedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, where each call and operator passes the budget of the render."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

    # Any, below: the signatures are Jinja's own, whose values are whatever a template computes with.

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator to bounded operands, and bound what comes out."""
        budget = _BUDGET.get()
        budget.step()
        check_operator(operator, left, right, budget)
        result = super().call_binop(context, operator, left, right)
        if operator == "+":
            budget.weigh_sum(left, right, result)
        else:
            budget.weigh(result)
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Bound `str.format` as well as keeping it from attributes."""
        inner = super().wrap_str_format(value)
        if inner is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            check_braces(str(value.__self__), (*args, *kwargs.values()), _BUDGET.get())
            return inner(*args, **kwargs)

        return bounded

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what the sandbox allows, with bounded arguments, and bound what comes back."""
        budget = _BUDGET.get()
        budget.step()
        given = (*args, *kwargs.values())
        for value in given:
            budget.weigh(value)
        if __obj is Namespace and any(isinstance(value, Namespace) for value in given):
            refuse("keeps a namespace inside another value")
        if isinstance(__obj, BuiltinMethodType):
            args = bounded_arguments(__obj, args, kwargs, budget)
        result = super().call(__context, __obj, *args, **kwargs)
        weight = budget.weigh(result)
        if isinstance(__obj, BuiltinMethodType) and isinstance(result, str):
            budget.write(weight)  # a call block would write it uncounted
        return result


def make_environment(plain: ImmutableSandboxedEnvironment) -> GuardedEnvironment:
    """Make an environment whose filters and tests are those of `plain`, each behind the budget."""
    environment = GuardedEnvironment(
        trim_blocks=plain.trim_blocks,
        lstrip_blocks=plain.lstrip_blocks,
        extensions=[type(extension) for extension in plain.extensions.values()],
    )
    del environment.globals["lipsum"]  # random text of any length
    names = [name for name in plain.filters if name not in _REFUSED_FILTERS]
    environment.filters = {name: _guarded_filter(name, plain) for name in names}
    environment.filters |= {
        _EACH: pass_context(_each),
        _SAID: pass_context(_said),
        _WROTE: pass_context(_wrote),
        _KEPT: pass_context(_kept),
        _MADE: pass_context(_made),
    }
    environment.tests = {name: _guarded_test(name, plain) for name in plain.tests}
    return environment


def compile_guarded(environment: GuardedEnvironment, source: str) -> Template:
    """Compile a template with its loops and outputs behind the budget. Raises TemplateSyntaxError."""
    tree = _Guarding().visit(environment.parse(source))
    tree.set_environment(environment)
    return environment.from_string(tree)


def render_guarded(template: Template, variables: Mapping[str, object], num_characters: int) -> str:
    """Render on a budget.

    Args:
        template: as `compile_guarded` made it.
        variables: what the template sees.
        num_characters: of all messages together; what may be spent grows with it.

    Raises:
        TemplateMismatch: the template spends more.
    """
    token = _BUDGET.set(Budget(num_characters))
    try:
        return template.render(variables)
    finally:
        _BUDGET.reset(token)


class _Guarding(NodeTransformer):
    """Put our filters around whatever loops, prints, keeps or makes a value."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        """Count the turns of a loop."""
        self.generic_visit(node)
        node.iter = _wrap(node.iter, _EACH)
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        """Count what is written."""
        self.generic_visit(node)
        constant = sum(len(child.data) for child in node.nodes if isinstance(child, nodes.TemplateData))
        children = [
            child if isinstance(child, nodes.TemplateData | nodes.Const) else _wrap(child, _SAID)
            for child in node.nodes
        ]
        count = [_wrap(nodes.Const(constant, lineno=node.lineno), _WROTE)] if constant else []
        node.nodes = [*count, *children]
        return node

    def visit_FilterBlock(self, node: nodes.FilterBlock) -> nodes.FilterBlock:
        """Count what a filtered block writes."""
        self.generic_visit(node)
        node.filter = _wrap(node.filter, _SAID)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Concat:
        """Bound the parts of a `~`."""
        self.generic_visit(node)
        node.nodes = [_wrap(child, _SAID) for child in node.nodes]
        return node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Assign:
        """Bound what is kept under a name."""
        self.generic_visit(node)
        node.node = _wrap(node.node, _KEPT if isinstance(node.target, nodes.NSRef) else _MADE)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Expr:
        """Bound a list that the template writes out."""
        return self._literal(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        """Bound a tuple that is read; one that names variables stays."""
        return self._literal(node, node.items if node.ctx == "load" else [])

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:
        """Bound a mapping that the template writes out."""
        return self._literal(node, [pair.value for pair in node.items])

    def _literal(self, node: nodes.Expr, items: Iterable[nodes.Expr]) -> nodes.Expr:
        is_constant = all(isinstance(item, nodes.Const) for item in items)
        self.generic_visit(node)
        return node if is_constant else _wrap(node, _MADE)


def _wrap(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


# Any, below: a filter takes whatever the template computed.


def _each(context: Context, value: Any) -> Any:
    """Count a loop's turns; give the very same thing to loop over where its length is known."""
    budget = _BUDGET.get()
    budget.step()
    if isinstance(value, Sized):
        return _Turns(value, budget) if len(value) > STEPS_A_LOOK else value
    return budget.watch(value)


class _Turns:
    """A sized thing to loop over that takes a step each turn."""

    def __init__(self, items: Any, budget: Budget) -> None:
        self._items = items
        self._budget = budget

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[object]:
        for item in self._items:
            self._budget.step()
            yield item


def _said(context: Context, value: Any) -> Any:
    budget = _BUDGET.get()
    budget.step()
    if isinstance(value, Namespace):
        refuse("prints a namespace")
    budget.write(budget.weigh(value))
    return value


def _wrote(context: Context, num_characters: int) -> str:
    budget = _BUDGET.get()
    budget.step()
    budget.write(num_characters)
    return ""


def _made(context: Context, value: Any) -> Any:
    _BUDGET.get().weigh(value)
    return value


def _kept(context: Context, value: Any) -> Any:
    if isinstance(value, Namespace):
        refuse("keeps a namespace inside another value")
    return _made(context, value)


def _guarded_filter(name: str, plain: ImmutableSandboxedEnvironment) -> Callable[..., Any]:
    @pass_context
    def guarded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = _BUDGET.get()
        budget.step()
        given = (*args, *kwargs.values())
        if isinstance(value, Iterator):
            value = budget.watch(value, budget.weigh(given) if name == "join" else 0)
        for item in (value, *given):
            budget.weigh(item)
        check_filter(name, value, given, budget)
        result = plain.call_filter(name, value, args, kwargs, context=context)
        budget.weigh(result)
        return result

    return guarded


def _guarded_test(name: str, plain: ImmutableSandboxedEnvironment) -> Callable[..., Any]:
    @pass_context
    def guarded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        _BUDGET.get().step()
        return plain.call_test(name, value, args, kwargs, context=context)

    return guarded
