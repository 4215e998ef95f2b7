"""Which small faults can be put into a module (`tools.mutants` tries them)."""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIKE_WITH_LIKE = (
    *("ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add"),
    *("ReplaceBinaryOperator_Mul_Div", "ReplaceBinaryOperator_Div_Mul"),
    *("ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_Mod_FloorDiv"),
    *("ReplaceBinaryOperator_Pow_Mul", "ReplaceBinaryOperator_RShift_LShift"),
    *("ReplaceBinaryOperator_LShift_RShift", "ReplaceBinaryOperator_BitOr_BitAnd"),
    *("ReplaceBinaryOperator_BitAnd_BitOr", "ReplaceComparisonOperator_Eq_NotEq"),
    *("ReplaceComparisonOperator_NotEq_Eq", "ReplaceComparisonOperator_Lt_LtE"),
    *("ReplaceComparisonOperator_Lt_GtE", "ReplaceComparisonOperator_LtE_Lt"),
    *("ReplaceComparisonOperator_LtE_Gt", "ReplaceComparisonOperator_Gt_GtE"),
    *("ReplaceComparisonOperator_Gt_LtE", "ReplaceComparisonOperator_GtE_Gt"),
    *("ReplaceComparisonOperator_GtE_Lt", "ReplaceComparisonOperator_Is_IsNot"),
    *("ReplaceComparisonOperator_IsNot_Is", "ReplaceUnaryOperator_Delete_USub"),
    *("ReplaceUnaryOperator_Delete_Invert", "ReplaceUnaryOperator_Delete_Not"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer"),
    *("AddNot", "NumberReplacer", "ZeroIterationForLoop"),
)
"""Cosmic Ray's operators that are tried. A sum that becomes a shift, say, is no fault that anyone
makes; and without its decorator a function is slower, or a class is none."""

Key = tuple[str, str, str, str, int]


@dataclass(frozen=True)
class Fault:
    """One change of one place in a module.

    Attributes:
        module: its path from the root.
        place: function that it lies in.
        line: number of the line, from 1.
        was: the line.
        operator: Cosmic Ray's name of the change.
        occurrence: which of the operator's places in the module this is.
        number: which of those of equal `place`, `was` and `operator`, in their order.
        column: of the line, from 0.
    """

    module: str
    place: str
    line: int
    was: str
    operator: str
    occurrence: int
    number: int
    column: int = 0

    @property
    def key(self) -> Key:
        """The same after an edit of other lines."""
        return self.module, self.place, self.was, self.operator, self.number


def spared(code: str) -> Callable[[int], bool]:
    """Whether a line, from 1, belongs to what is not worth a fault.

    That is annotations that have lines of their own, decorators, what is raised or warned of, and
    names for types.
    """
    spans: list[ast.stmt | ast.expr] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            spans += [*node.decorator_list]
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _warns(node)):
            spans.append(node)
        if isinstance(node, ast.Module):
            spans += [one for one in node.body if _names_a_type(one)]
    lines = {n for node in spans for n in range(node.lineno, (node.end_lineno or 0) + 1)}
    return lines.__contains__


def _warns(node: ast.Call) -> bool:
    return ast.unparse(node.func) == "warnings.warn"


def _names_a_type(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Assign) else None
    union = isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr)
    return union or isinstance(value, ast.Subscript)


def faults_of(module: str, code: str) -> list[Fault]:
    """Every fault of a module, by operator and place; those that change no code are left out."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.ast.ast_query import ASTQuery
    from cosmic_ray.plugins import get_operator

    nodes, lines, is_spared = list(ast_nodes(get_ast(code))), code.splitlines(), spared(code)
    found, seen = [], Counter[tuple[str, str, str]]()
    for operator in LIKE_WITH_LIKE:
        changes, occurrence = get_operator(f"core/{operator}")(), -1
        for node in nodes:
            for (line, column), _ in changes.mutation_positions(node):
                occurrence += 1
                place, was = ASTQuery(node).get_definition_name() or "", lines[line - 1].strip()
                number = seen[place, was, operator]
                seen[place, was, operator] += 1
                if not (is_spared(line) or _is_annotation(node)):
                    one = Fault(module, place, line, was, operator, occurrence, number, column)
                    found.append(one)
    return found


def _is_annotation(node: Any) -> bool:
    """Whether a node lies in an annotation, or is the star of a list of parameters."""
    while node.parent is not None:
        child, node = node, node.parent
        if node.type == "annassign" and child is node.children[1]:
            return True
        if node.type == "tfpdef" or (node.type == "parameters" and child.type == "operator"):
            return True
        if node.type == "funcdef" and child is node.annotation:
            return True
    return False


def mutated(code: str, fault: Fault) -> str | None:
    """The code with the fault; None where it would be no Python, or the same."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    changed: str = mutate_code(code, get_operator(f"core/{fault.operator}")(), fault.occurrence)
    try:
        same = ast.dump(ast.parse(changed)) == ast.dump(ast.parse(code))
    except SyntaxError:
        return None
    return None if same else changed


def drawn(faults: dict[str, list[Fault]], seed: int) -> list[Fault]:
    """All faults, the first of every place before the second of any.

    The first n are of each module in proportion to what it has.
    """
    order = []
    for module, some in faults.items():
        rounds: list[list[Fault]] = []
        seen = Counter[tuple[int, int]]()
        for fault in random.Random(f"{seed} {module}").sample(some, len(some)):
            before = seen[fault.line, fault.column]
            seen[fault.line, fault.column] += 1
            rounds += [[]] if before == len(rounds) else []
            rounds[before].append(fault)
        for number, these in enumerate(rounds):
            order += [(number, (n + 0.5) / len(these), one) for n, one in enumerate(these)]
    return [one for *_, one in sorted(order, key=lambda one: (*one[:2], one[2].module))]
