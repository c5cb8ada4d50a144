r"""Text of studies as HTML: formulas between dollar signs, powers of h, bold, commands."""

from __future__ import annotations

import re
from collections.abc import Callable

from markupsafe import Markup, escape

LOWER = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta"),
    *("kappa", "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "phi", "varphi"),
    *("chi", "psi", "omega"),
)
UPPER = ("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega")
GREEK = dict(zip(LOWER, "αβγδεεζηθκλμνξπρστφφχψω", strict=True))
GREEK |= dict(zip(UPPER, "ΓΔΘΛΞΠΣΦΨΩ", strict=True))
SIGNS = {
    "cdot": "·",
    "times": "×",
    "pm": "±",
    "le": "≤",
    "leq": "≤",
    "ge": "≥",
    "geq": "≥",
    "ne": "≠",
    "neq": "≠",
    "approx": "≈",
    "sim": "~",
    "propto": "∝",
    "to": "→",
    "rightarrow": "→",
    "in": "∈",
    "ll": "≪",
    "gg": "≫",
    "infty": "∞",
    "partial": "∂",
    "nabla": "∇",
    "sum": "∑",
    "prod": "∏",
    "int": "∫",
    "ldots": "…",
    "dots": "…",
    "ell": "ℓ",
    "|": "‖",
    "Vert": "‖",
    "lVert": "‖",
    "rVert": "‖",
    "vert": "|",
    "lvert": "|",
    "rvert": "|",
    "langle": "⟨",
    "rangle": "⟩",
    "{": "{",
    "}": "}",
    "%": "%",
    "-": "−",
    "*": "∗",
}
LETTERS = ("infty", "partial", "ell")  # signs that stand like letters
BREAKS = ("<mo>+</mo>", "<mo>−</mo>", "<mo>=</mo>", "<mo>≈</mo>")
LIMITS = ("sum", "prod")
SPACES = {
    "\\": "0.6em",
    ",": "0.17em",
    ":": "0.22em",
    ";": "0.28em",
    " ": "0.3em",
    "quad": "1em",
    "!": "0",
}
# What only sets sizes or places is left to the browser.
SIZES = (
    *("left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr"),
    *("displaystyle", "limits", "substack"),
)
NAMES = ("mathrm", "mathit", "mathbf", "operatorname", "text", "textrm", "mathbb", "mathcal")
TOKENS = re.compile(r"\\(?:[A-Za-z]+|.)|\d+(?:\.\d+)?|\s+|.", re.DOTALL)


def prose(text: str) -> Markup:
    """Write a sentence as HTML.

    Parameters
    ----------
    text : str
        Plain text with LaTeX between ``$``, ``h^...``, ``**bold**`` and `` `code` ``.
    """
    parts = re.split(r"\$([^$]+)\$", text)
    return Markup("").join(
        mathematics(part) if place % 2 else _plain(part) for place, part in enumerate(parts)
    )


def _plain(text: str) -> Markup:
    found = str(escape(text.replace(" -> ", " → ")))
    found = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", found)
    found = re.sub(r"`([^`]+)`", r"<code>\1</code>", found)
    found = re.sub(
        r"\b([hn])\^([-−+]?[\w/]+(?:\.\d+)?)",
        lambda m: f"<i>{m[1]}</i><sup>{m[2].replace('-', '−')}</sup>",
        found,
    )
    return Markup(found)  # escaped above, before tags were put in


def mathematics(latex: str) -> Markup:
    """Write a formula in LaTeX as MathML; a command that is unknown stands as its name.

    Parameters
    ----------
    latex : str
        Without dollar signs.
    """
    terms: list[list[str]] = [[]]
    for part in _parts(TOKENS.findall(latex), lambda token: False):
        if part in BREAKS and terms[-1]:
            terms.append([])
        terms[-1].append(part)
    # A line may break between terms, which MathML knows nothing of.
    return Markup(" ").join(Markup(f"<math><mrow>{''.join(term)}</mrow></math>") for term in terms)


def _row(tokens: list[str], ends: Callable[[str], bool]) -> str:
    return f"<mrow>{''.join(_parts(tokens, ends))}</mrow>"


def _parts(tokens: list[str], ends: Callable[[str], bool]) -> list[str]:
    """Take tokens up to the one that ends the row, which is taken too."""
    found: list[str] = []
    limits = False
    while tokens:
        token = tokens.pop(0)
        if ends(token):
            break
        if token.isspace():
            continue
        if token in ("^", "_"):
            base = found.pop() if found else "<mrow></mrow>"
            scripts = {token: _argument(tokens)}
            if tokens and tokens[0] in ("^", "_") and tokens[0] not in scripts:
                other = tokens.pop(0)
                scripts[other] = _argument(tokens)
            found.append(_scripts(base, scripts, limits))
            continue
        limits = token[1:] in LIMITS
        found.append(_atom(token, tokens))
    return found


def _scripts(base: str, scripts: dict[str, str], limits: bool) -> str:
    names = {"_": "under", "^": "over"} if limits else {"_": "sub", "^": "sup"}
    order = [sign for sign in ("_", "^") if sign in scripts]
    name = "m" + "".join(names[sign] for sign in order)
    return f"<{name}>{base}{''.join(scripts[sign] for sign in order)}</{name}>"


def _argument(tokens: list[str]) -> str:
    """Next group in braces, or next atom."""
    while tokens and tokens[0].isspace():
        tokens.pop(0)
    return _atom(tokens.pop(0), tokens) if tokens else "<mrow></mrow>"


def _atom(token: str, tokens: list[str]) -> str:
    if token == "{":
        return _row(tokens, lambda t: t == "}")
    if token == "(" and ")" in tokens:
        return f"<mrow><mo>(</mo>{''.join(_parts(tokens, lambda t: t == ')'))}<mo>)</mo></mrow>"
    if token[0].isdigit():
        return f"<mn>{token}</mn>"
    if token.startswith("\\") and len(token) > 1:
        return _command(token[1:], tokens)
    if token.isalpha():
        return f"<mi>{token}</mi>"
    return f"<mo>{escape(token.replace('-', '−').replace('*', '∗'))}</mo>"


def _command(name: str, tokens: list[str]) -> str:
    if name in ("frac", "tfrac", "dfrac"):
        return f"<mfrac>{_argument(tokens)}{_argument(tokens)}</mfrac>"
    if name == "sqrt":
        if tokens and tokens[0] == "[":
            tokens.pop(0)
            index = _row(tokens, lambda t: t == "]")
            return f"<mroot>{_argument(tokens)}{index}</mroot>"
        return f"<msqrt>{_argument(tokens)}</msqrt>"
    if name in NAMES:
        letters = re.sub("<[^>]+>", "", _argument(tokens))
        return f'<mi mathvariant="normal">{letters}</mi>'
    if name in ("hat", "bar", "tilde", "overline"):
        sign = {"hat": "^", "tilde": "~"}.get(name, "¯")
        return f'<mover accent="true">{_argument(tokens)}<mo>{sign}</mo></mover>'
    if name in SPACES:
        return f'<mspace width="{SPACES[name]}"></mspace>'
    if name in SIZES:
        return ""
    if name in GREEK:
        return f"<mi>{GREEK[name]}</mi>"
    if name in SIGNS:
        tag = "mi" if name in LETTERS else "mo"
        return f"<{tag}>{SIGNS[name]}</{tag}>"
    return f"<mi>{escape(name)}</mi>"
