"""Per-example gradient norms without per-example gradients. JAX, traced once for each loss.

The loss of one example is traced. A weight that enters by a dense layer or a convolution, and
nowhere else, needs no gradient: its norm comes from the layer's input and the cotangent of its
output (`infoutil_jax.gradients.linear_layers`), and nothing of one layer outlives it. All other
parameters (shifts and scales, shared weights, weights of which something is computed first, layers
of any other kind) are differentiated for each example, as `jax.vmap(jax.grad)` does with all.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array, Float, PyTree

from infoutil_jax.gradients.linear_layers import Layer, is_registered, norm, recognise

# Calls that do nothing but group equations. Custom rules are none: they may say anything.
_GROUPS = ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint")
# What leaves a norm as it is.
_ISOMETRIES = ("reshape", "transpose", "squeeze", "expand_dims", "rev", "copy")
# An example's gradient of so many numbers is worth a word when it is formed.
_LARGE = 1 << 18


def gradient_norms(
    loss: Callable[[list[Any], Any], Any], params: list[Any], batch: PyTree
) -> Float[Array, " batch"]:
    """`vmap` of the norm of `jax.grad(loss)`.

    Args:
        loss: `(params, example) -> scalar`.
        params: floating-point arrays.
        batch: any pytree of arrays with one leading axis.
    """
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch)
    program = _Program.of(jax.make_jaxpr(loss)(params, example), len(params))
    if program.output not in program.of_example:
        return jax.vmap(lambda example: norm(jax.grad(loss)(params, example)))(batch)
    return program.norms(params, jax.tree.leaves(batch))


@dataclass(frozen=True, eq=False)
class _Equation:
    """One primitive; its inputs and outputs are numbers of values."""

    primitive: Any
    options: dict[str, Any]
    inputs: list[int]
    outputs: list[int]
    types: list[Any]
    """Shapes and types, of inputs and then outputs."""

    def run(self, values: dict[int, Any]) -> None:
        bound = self.primitive.get_bind_params(self.options)
        functions, options = bound if isinstance(bound, tuple) else ((), bound)  # before JAX 0.10
        result = self.primitive.bind(*functions, *(values[i] for i in self.inputs), **options)
        results = result if self.primitive.multiple_results else [result]
        values.update(zip(self.outputs, results, strict=True))

    @property
    def kind(self) -> tuple[str, dict[str, Any]]:
        """Primitive and parameters.

        A registered custom rule (`register_linear`) counts as the one primitive that it computes.
        """
        inner = self.options.get("call_jaxpr")
        if isinstance(inner, ClosedJaxpr) and is_registered(self.options.get("bwd")):
            jaxpr = inner.jaxpr
            if len(jaxpr.eqns) == 1 and jaxpr.eqns[0].invars == jaxpr.invars:
                return jaxpr.eqns[0].primitive.name, jaxpr.eqns[0].params
        return self.primitive.name, self.options

    @property
    def isometric(self) -> bool:
        """Whether its output has the norm of its first input."""
        name, (source, *_, result) = self.primitive.name, self.types
        if name == "broadcast_in_dim":
            return bool(math.prod(result.shape) == math.prod(source.shape))
        if name == "convert_element_type":
            return jnp.issubdtype(result.dtype, jnp.floating)
        return name in _ISOMETRIES


@dataclass
class _Program:
    """A loss as a list of equations, and what each value depends on."""

    params: list[int]
    example: list[int]
    output: int = -1
    equations: list[_Equation] = field(default_factory=list)
    values: dict[int, Any] = field(default_factory=dict)
    """Constants."""
    numbers: Any = field(default_factory=itertools.count)
    of_example: set[int] = field(default_factory=set)
    """Values that differ between examples."""
    of_params: dict[int, frozenset[int]] = field(default_factory=dict)
    """The others that depend on parameters, and on which."""
    same: dict[int, int] = field(default_factory=dict)
    """Values that are a parameter, but for shape, order and precision."""

    @classmethod
    def of(cls, closed: ClosedJaxpr, params: int) -> _Program:
        inputs = list(range(len(closed.jaxpr.invars)))
        program = cls(inputs[:params], inputs[params:], numbers=itertools.count(len(inputs)))
        program.of_example = set(program.example)
        program.of_params = {number: frozenset([number]) for number in program.params}
        program.same = {number: number for number in program.params}
        (program.output,) = program._add(closed, inputs)
        return program

    def _add(self, closed: ClosedJaxpr, inputs: Sequence[int]) -> list[int]:
        """Takes over a jaxpr's equations, and those inside of calls that only group equations."""
        known = dict(zip(closed.jaxpr.invars, inputs, strict=True))
        known.update(zip(closed.jaxpr.constvars, map(self._constant, closed.consts), strict=True))

        def read(atom: Any) -> int:
            return self._constant(atom.val) if isinstance(atom, Literal) else known[atom]

        for eqn in closed.jaxpr.eqns:
            arguments = [read(atom) for atom in eqn.invars]
            inner = _inside(eqn)
            if inner is not None:
                results = self._add(inner, arguments)
            else:
                results = [next(self.numbers) for _ in eqn.outvars]
                types = [atom.aval for atom in (*eqn.invars, *eqn.outvars)]
                self._append(_Equation(eqn.primitive, eqn.params, arguments, results, types))
            known.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in closed.jaxpr.outvars]

    def _constant(self, value: Any) -> int:
        number: int = next(self.numbers)
        self.values[number] = value
        return number

    def _append(self, equation: _Equation) -> None:
        self.equations.append(equation)
        if self.of_example.intersection(equation.inputs):
            self.of_example.update(equation.outputs)
            return
        sources = frozenset().union(*(self.of_params.get(i, ()) for i in equation.inputs))
        if sources:
            self.of_params.update((number, sources) for number in equation.outputs)
        if equation.inputs and equation.inputs[0] in self.same and equation.isometric:
            self.same[equation.outputs[0]] = self.same[equation.inputs[0]]

    def norms(self, params: list[Array], batch: list[Array]) -> Float[Array, " batch"]:
        """The norms over `params`, layer by layer where there are layers."""
        inside = [e for e in self.equations if self.of_example.intersection(e.inputs)]
        outside = [e for e in self.equations if not self.of_example.intersection(e.inputs)]
        layers = self._layers(inside)
        used = {number for equation in inside for number in equation.inputs}
        used &= self.of_params.keys() - {weight for _, _, weight in layers.values()}

        def determined(params: list[Array]) -> dict[int, Any]:
            values = self.values | dict(zip(self.params, params, strict=True))
            for equation in outside:
                equation.run(values)
            return values

        known = determined(params)
        other = [i for i in sorted(used) if jnp.issubdtype(jnp.result_type(known[i]), jnp.inexact)]

        def loss(changes: tuple[list[Array], list[Array]], example: list[Array]) -> Any:
            values = known | dict(zip(self.example, example, strict=True))
            values |= {i: values[i] + change for i, change in zip(other, changes[0], strict=True)}
            seen: list[Array] = []
            for equation in inside:
                equation.run(values)
                if equation in layers:
                    values[equation.outputs[0]] += changes[1][len(seen)]
                    seen.append(values[layers[equation][1]])
            return values[self.output], seen

        results = [equation.types[-1] for equation in layers]
        none = (
            [jnp.zeros_like(known[i]) for i in other],
            [jnp.zeros(result.shape, result.dtype) for result in results],
        )
        gradient = jax.vmap(jax.grad(loss, has_aux=True), in_axes=(None, 0))
        (others, cotangents), inputs = gradient(none, batch)
        found = [
            jax.vmap(layer.norm)(x, g)
            for (layer, _, _), x, g in zip(layers.values(), inputs, cotangents, strict=True)
        ]
        if other:
            _, pull = jax.vjp(lambda params: [determined(params)[i] for i in other], params)
            behind = frozenset().union(*(self.of_params[i] for i in other))
            chosen = [n for n, number in enumerate(self.params) if number in behind]
            _tell_of_large([params[n] for n in chosen])

            def whole(cotangents: list[Array]) -> Array:
                (gradients,) = pull(cotangents)
                return norm([gradients[n] for n in chosen])

            found.append(jax.vmap(whole)(others))
        if not found:
            return jnp.zeros(len(batch[0]))
        return jax.vmap(lambda *norms: norm(norms))(*found)

    def _layers(self, inside: list[_Equation]) -> dict[_Equation, tuple[Layer, int, int]]:
        """Layers, with their input and weight, whose weight is a parameter used nowhere else."""
        uses = [i for equation in inside for i in equation.inputs]
        counts: dict[int, int] = {}
        for param in itertools.chain.from_iterable(self.of_params.get(i, ()) for i in uses):
            counts[param] = counts.get(param, 0) + 1
        layers = {}
        for equation in inside:
            for weight, number in enumerate(equation.inputs):
                once = counts.get(self.same.get(number, -1)) == 1 and len(equation.inputs) == 2
                # Of what a real weight meets that is complex, the gradient is but a part.
                if once and all(jnp.issubdtype(t.dtype, jnp.floating) for t in equation.types):
                    shapes = [kind.shape for kind in equation.types]
                    layer = recognise(*equation.kind, shapes, weight)
                    if layer:
                        layers[equation] = (layer, equation.inputs[1 - weight], number)
        return layers


def _inside(eqn: Any) -> ClosedJaxpr | None:
    """The equations inside of a call that only groups them; None for any other."""
    if eqn.primitive.name not in _GROUPS:
        return None
    inner = eqn.params.get("jaxpr") or eqn.params.get("call_jaxpr")
    return ClosedJaxpr(inner, ()) if isinstance(inner, Jaxpr) else inner


def _tell_of_large(arrays: list[Array]) -> None:
    shapes = ["×".join(map(str, array.shape)) for array in arrays if array.size >= _LARGE]
    if shapes:
        warnings.warn(
            f"gradient_norms forms every example's gradient of parameters of {', '.join(shapes)}: "
            "they are used by more than one layer, or by none that is a product or a "
            "convolution. microbatch_size bounds the memory.",
            stacklevel=2,
        )
