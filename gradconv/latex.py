"""Text for LaTeX: escaped characters, and mathematics between dollar signs."""

from __future__ import annotations

import re
import unicodedata

# Characters that LaTeX reads as commands, or that fonts of pdfTeX lack.
ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{NO-BREAK SPACE}": "~",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "…": r"\dots{}",
    "§": r"\S{}",
}
# Characters that LaTeX has in mathematics alone.
MATHEMATICS = {
    **{c: c for c in "<>|"},
    "∣": "|",
    "−": "-",
    "±": r"\pm",
    "×": r"\times",
    "·": r"\cdot",
    "→": r"\to",
    "↦": r"\mapsto",
    "≈": r"\approx",
    "\N{TILDE OPERATOR}": r"\sim",
    "∝": r"\propto",
    "∞": r"\infty",
    "∇": r"\nabla",
    "∂": r"\partial",
    "∫": r"\int",
    "∈": r"\in",
    "‖": r"\|",
    "∥": r"\|",
    "≤": r"\le",
    "≥": r"\ge",
    "≪": r"\ll",
    "≫": r"\gg",
    "≠": r"\ne",
    "√": r"\surd",
    "½": r"\frac12",
    "¼": r"\frac14",
    "¾": r"\frac34",
    "°": r"^{\circ}",
    "′": r"^{\prime}",
    "∗": "*",
    "ℓ": r"\ell",
    "⟨": r"\langle",
    "⟩": r"\rangle",
    **{
        chr(code): rf"\{name}"
        for first, names in (
            (0x3B1, "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi"),
            (0x3C0, "pi rho"),
            (0x3C3, "sigma tau upsilon varphi chi psi omega"),
        )
        for code, name in enumerate(names.split(), first)
    },
    **{"Γ": r"\Gamma", "Δ": r"\Delta", "Θ": r"\Theta", "Λ": r"\Lambda", "Ξ": r"\Xi"},
    **{"Π": r"\Pi", "Σ": r"\Sigma", "Φ": r"\Phi", "Ψ": r"\Psi", "Ω": r"\Omega"},
    **{"µ": r"\mu", "ϑ": r"\vartheta", "ϕ": r"\phi", "ϵ": r"\epsilon"},
}
ACCENTS = {
    "\N{COMBINING ACUTE ACCENT}": "'",
    "\N{COMBINING GRAVE ACCENT}": "`",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING DIAERESIS}": '"',
    "\N{COMBINING TILDE}": "~",
}
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ᵈ", [*"0123456789-+d"], strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉ₗ", [*"0123456789l"], strict=True))
FORMULA = r"\$([^$]+)\$"


def tex(text: str) -> str:
    """Escape text for LaTeX.

    Mathematics between dollar signs stays as it is; ``h^...`` and raised digits become
    mathematics, ``**...**`` bold.

    Parameters
    ----------
    text : str
        Text.
    """
    bold = re.split(r"\*\*(.+?)\*\*", text)
    return "".join(
        rf"\textbf{{{_mixed(part)}}}" if odd else _mixed(part)
        for part, odd in zip(bold, _alternating(len(bold)), strict=True)
    )


def plain(text: str) -> str:
    """Text whose mathematics between dollar signs is written in Unicode, where it can be.

    Parameters
    ----------
    text : str
        Text; of mathematics, what laws are written in: powers, Greek, fractions, roots, norms.
    """
    parts = re.split(FORMULA, text)
    return "".join(
        _unicode(part) if odd else part
        for part, odd in zip(parts, _alternating(len(parts)), strict=True)
    )


def _unicode(formula: str) -> str:
    words = {name[1:]: c for c, name in reversed(MATHEMATICS.items()) if name[:1] == "\\"}
    words |= {"lVert": "‖", "rVert": "‖", "Vert": "‖", "left": "", "right": "", ",": " "}
    words |= {"log": "log", "quad": " "}
    raise_ = {value: c for c, value in RAISED.items()}
    lower = {value: c for c, value in LOWERED.items()}

    def shifted(match: re.Match[str]) -> str:
        inner = (match[2] or match[3]).replace(" ", "")
        table = raise_ if match[1] == "^" else lower
        if all(c in table for c in inner):
            return "".join(table[c] for c in inner)
        return f"{match[1]}{inner if len(inner) == 1 else f'({inner})'}"

    text = re.sub(r"\\mathrm\{([^{}]*)\}", r"\1", formula)
    for _ in range(4):  # braces within braces
        text = re.sub(r"([_^])(?:\{([^{}]*)\}|([^\\{]))", shifted, text)
        text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)", text)
        text = re.sub(r"\\sqrt\{([^{}]*)\}", r"√(\1)", text)
    text = re.sub(r"\\([A-Za-z]+|,) ?", lambda m: words.get(m[1], m[1]), text)
    return re.sub(r" +", " ", text.replace("-", "−"))


def _mixed(text: str) -> str:
    parts = re.split(FORMULA, text)
    return "".join(
        rf"\({part}\)" if odd else _tex(part)
        for part, odd in zip(parts, _alternating(len(parts)), strict=True)
    )


def _tex(text: str) -> str:
    raised, lowered = "".join(RAISED), "".join(LOWERED)
    found = []
    for part in re.split(rf"(h\^[-−\w/.]*\w|[{raised}]+|[{lowered}]+)", text):
        if part.startswith("h^"):
            power = "".join(MATHEMATICS.get(c, c) for c in part[2:]).replace("_", r"\_")
            found.append(rf"\(h^{{{power}}}\)")
        elif part and part[0] in RAISED:
            found.append(rf"\(^{{{''.join(RAISED[c] for c in part)}}}\)")
        elif part and part[0] in LOWERED:
            found.append(rf"\(_{{{''.join(LOWERED[c] for c in part)}}}\)")
        else:
            found.append("".join(_character(c) for c in part))
    return "".join(found)


def _character(c: str) -> str:
    if c in MATHEMATICS:
        return rf"\({MATHEMATICS[c]}\)"
    if c in ESCAPES or c.isascii():
        return ESCAPES.get(c, c)
    parts = unicodedata.normalize("NFD", c).ljust(2)
    base, accent = parts[0], parts[1]
    return rf"\{ACCENTS[accent]}{{{base}}}" if accent in ACCENTS else c


def _alternating(count: int) -> list[bool]:
    return [place % 2 == 1 for place in range(count)]
