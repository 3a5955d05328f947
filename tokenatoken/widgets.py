"""Exploradores: un control, un resultado que cambia y una imagen fija.

Solo usan lo que funciona igual en ipywidgets 7.7.1 (Colab) y 8. Sin kernel
(GitHub, diapositivas, papel) se ve la imagen. No saben nada de ejercicios.
"""

import html

import ipywidgets as widgets
import pandas as pd
import torch
from IPython.display import display

from . import number
from .forward import next_logits, prompt_ids
from .generation import GenerationStep, stream
from .plots import (
    TOKEN_COLORS,
    Picture,
    before_after,
    cache_growth,
    grouped_bars,
    heatmap,
    steps_strip,
    token_strip,
)
from .sampling import apply_temperature, sample_token, warp_logits
from .tokens import encode, token_label

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# Tokens dibujados como mucho; los recuentos son siempre del texto entero.
_MAX_SHOWN = 2000


def show(control: widgets.Widget, still: Picture) -> None:
    """Publica el control vivo y la imagen fija en una misma salida."""
    data = still.bundle() | _view(control)
    display(data, raw=True, metadata={"image/png": {"alt": still.text}})


def _view(control: widgets.Widget) -> dict:
    """El control vivo, en el formato de las salidas de un cuaderno."""
    reference = {"version_major": 2, "version_minor": 0}
    return {_WIDGET_VIEW: reference | {"model_id": control.model_id}}


def tokens_html(tokenizer, ids: list[int]) -> str:
    """Los tokens como piezas de color; el id aparece al pasar el ratón."""
    spans = []
    for i, token_id in enumerate(ids[:_MAX_SHOWN]):
        label = html.escape(token_label(tokenizer, token_id))
        color = TOKEN_COLORS[i % len(TOKEN_COLORS)]
        spans.append(
            f'<span title="id {token_id}" style="background:{color};'
            "color:#000;padding:2px 3px;margin:1px;border-radius:3px;"
            f'display:inline-block">{label}</span>'
        )
    rest = len(ids) - _MAX_SHOWN
    if rest > 0:
        spans.append(f" … y {number(rest, 0)} tokens más, que sí se cuentan.")
    return (
        f'<div role="img" aria-label="{len(ids)} tokens" style="font:16px/1.9 '
        f'monospace;white-space:pre-wrap">{"".join(spans)}</div>'
    )


def counts_html(tokenizers: dict, text: str, price: float) -> str:
    """Tabla de recuentos y coste: una fila por vocabulario."""
    words, characters = len(text.split()), len(text)
    head = "".join(
        f'<th scope="col" style="padding:2px 10px;text-align:right">{title}</th>'
        for title in ("", "tokens", "tokens/palabra", "car./token", "coste")
    )
    rows = ""
    for name, tokenizer in tokenizers.items():
        n = len(encode(tokenizer, text))
        values = (
            number(n, 0),
            number(n / words) if words else "–",
            number(characters / n) if n else "–",
            number(n * price / 1e6, 6),
        )
        cells = "".join(
            f'<td style="padding:2px 10px;text-align:right">{v}</td>'
            for v in values
        )
        rows += f'<tr><th scope="row" style="text-align:left">{name}</th>{cells}</tr>'
    return (
        f'<div style="font-size:16px">{number(words, 0)} palabras, '
        f"{number(characters, 0)} caracteres"
        f"<table><tr>{head}</tr>{rows}</table></div>"
    )


def token_explorer(
    tokenizers: dict, text: str, price: float = 1.0
) -> widgets.VBox:
    """Escribe un texto y mira sus tokens, recuentos y coste al momento.

    `tokenizers`: nombre → tokenizador; el primero es el que se colorea al
    abrir. `price`: precio de un millón de tokens, en la moneda que quieras.
    Publica el explorador y lo devuelve (sus hijos: texto, controles, piezas y
    recuentos).
    """
    layout = widgets.Layout(width="100%")
    area = widgets.Textarea(
        value=text, rows=3, layout=layout, description="Texto"
    )
    which = widgets.Dropdown(
        options=tuple(tokenizers), description="Vocabulario"
    )
    cost = widgets.BoundedFloatText(
        value=price,
        min=0,
        max=1e6,
        step=0.1,
        description="Precio del millón",
        style={"description_width": "initial"},
    )
    pieces, counts = widgets.HTML(), widgets.HTML()

    def refresh(_=None):
        tokenizer = tokenizers[which.value]
        pieces.value = tokens_html(tokenizer, encode(tokenizer, area.value))
        counts.value = counts_html(tokenizers, area.value, cost.value)

    for control in (area, which, cost):
        control.observe(refresh, names="value")
    refresh()
    box = widgets.VBox([area, widgets.HBox([which, cost]), pieces, counts])
    show(box, token_strip(tokenizers[which.value], text))
    return box


def heat_svg(values, labels: list[str], title: str) -> str:
    """Mapa de calor cuadrado en SVG, con su descripción para lectores de
    pantalla. `values`: `[n, n]` entre 0 y 1; los ceros quedan en blanco."""
    n, side, left, top = len(labels), 44, 130, 96
    cells, notes = [], []
    for y, row in enumerate(values):
        best = max(range(n), key=lambda x: row[x])
        notes.append(f"{labels[y]} atiende sobre todo a {labels[best]}")
        for x in range(y + 1):
            share = float(row[x])
            color = "#fff" if share > 0.45 else "#000"
            place = f'x="{left + side * x}" y="{top + side * y}"'
            middle = (
                f'x="{left + side * (x + 0.5)}" y="{top + side * (y + 0.6)}"'
            )
            cells.append(
                f'<rect {place} width="{side - 2}" height="{side - 2}" '
                f'fill="#0072B2" fill-opacity="{share:.3f}" stroke="#ccc"/>'
                f'<text {middle} text-anchor="middle" font-size="13" '
                f'fill="{color}">{round(100 * share)}</text>'
            )
    for i, label in enumerate(labels):
        text = html.escape(label)
        y = top + side * (i + 0.6)
        x = left + side * (i + 0.5)
        cells.append(
            f'<text x="{left - 8}" y="{y}" text-anchor="end" font-size="15">'
            f'{text}</text><text transform="translate({x},{top - 8}) '
            f'rotate(-40)" font-size="15">{text}</text>'
        )
    size = f"{left + side * n + 60} {top + side * n + 6}"
    about = html.escape(f"{title}. " + "; ".join(notes))
    return (
        f'<svg role="img" aria-label="{about}" viewBox="0 0 {size}" '
        f'style="max-width:760px;width:100%;font-family:monospace">'
        f"{''.join(cells)}</svg>"
    )


def attention_explorer(
    attentions, labels: list[str], layer: int = 0, head: int = 0
) -> widgets.VBox:
    """Mapa de atención; al abrir, el de la capa y la cabeza que digas.

    `attentions`: `[capas, cabezas, n, n]`, cada fila suma 1. `labels`: los n
    tokens. En cada casilla, tanto por ciento de atención de la fila a la
    columna.
    """
    which_layer = widgets.IntSlider(
        value=layer, min=0, max=len(attentions) - 1, description="Capa"
    )
    which_head = widgets.IntSlider(
        value=head, min=0, max=len(attentions[0]) - 1, description="Cabeza"
    )
    picture = widgets.HTML()

    def refresh(_=None):
        values = attentions[which_layer.value][which_head.value].tolist()
        title = f"Capa {which_layer.value}, cabeza {which_head.value}"
        picture.value = heat_svg(values, labels, title)

    for control in (which_layer, which_head):
        control.observe(refresh, names="value")
    refresh()
    box = widgets.VBox([widgets.HBox([which_layer, which_head]), picture])
    shares = 100 * attentions[layer][head]
    blank = [
        [float(v) if x <= y else float("nan") for x, v in enumerate(row)]
        for y, row in enumerate(shares)
    ]
    title = f"Atención en la capa {layer}, cabeza {head} (en %)"
    show(box, heatmap(blank, labels, labels, title, decimals=0))
    return box


def bars_svg(
    labels: list[str],
    shares: list[float],
    title: str,
    before: list[float] | None = None,
    chosen: int | None = None,
) -> str:
    """Barras horizontales en SVG; `shares` entre 0 y 1, con su tanto por
    ciento al lado y la descripción para lectores de pantalla. `before`: cómo
    eran antes (contorno). `chosen`: qué barra se destaca."""
    step, left, wide = 34, 150, 480
    bars = []
    for i, (label, share) in enumerate(zip(labels, shares)):
        y = step * i
        text = html.escape(label)
        old = before[i] if before else 0.0
        end = left + wide * max(share, old) + 8
        said = f"{number(100 * share, 1)} %"
        if before and share == 0:
            said = "fuera"
        color = "#D55E00" if i == chosen else "#0072B2"
        bars.append(
            f'<text x="{left - 8}" y="{y + 22}" text-anchor="end" '
            f'font-size="17">{text}</text>'
            f'<rect x="{left}" y="{y + 4}" width="{wide * share:.1f}" '
            f'height="{step - 8}" fill="{color}"/>'
            f'<text x="{end:.1f}" y="{y + 22}" font-size="16">'
            f"{said}{' ← elegido' if i == chosen else ''}</text>"
        )
        if before:
            bars.append(
                f'<rect x="{left}" y="{y + 4}" width="{wide * old:.1f}" '
                f'height="{step - 8}" fill="none" stroke="#000"/>'
            )
    pairs = "; ".join(
        f"{label} {number(100 * share, 1)} %"
        for label, share in zip(labels, shares)
    )
    about = html.escape(f"{title}: {pairs}")
    return (
        f'<svg role="img" aria-label="{about}" style="max-width:820px;'
        f'width:100%;font-family:monospace" '
        f'viewBox="0 0 {left + wide + 170} {step * len(labels)}">'
        f"{''.join(bars)}</svg>"
    )


def temperature_explorer(logits, tokenizer, k: int = 10) -> widgets.VBox:
    """Las k mejores probabilidades, la entropía y el núcleo según T.

    `logits`: `[V]`. Los ordena una sola vez: la temperatura no cambia el
    orden. El núcleo es cuántos tokens hacen falta para juntar 0,9.
    """
    values, ids = logits.float().sort(descending=True)  # [V], [V]
    labels = [token_label(tokenizer, i) for i in ids[:k].tolist()]
    slider = widgets.FloatSlider(
        value=1.0, min=0.0, max=2.5, step=0.1, description="T"
    )
    facts, picture = widgets.HTML(), widgets.HTML()

    def refresh(_=None):
        shares = apply_temperature(values, slider.value).softmax(-1)
        entropy = float(-(shares * shares.clamp_min(1e-30).log()).sum())
        nucleus = int((shares.cumsum(0) < 0.9).sum()) + 1
        title = f"T={number(slider.value, 1)}"
        facts.value = (
            f'<div style="font-size:17px">Entropía: {number(entropy)} nats · '
            f"núcleo de 0,9: {number(nucleus, 0)} tokens</div>"
        )
        picture.value = bars_svg(labels, shares[:k].tolist(), title)

    slider.observe(refresh, names="value")
    refresh()
    box = widgets.VBox([slider, facts, picture])
    shares = 100 * values.softmax(-1)[:k]
    table = pd.DataFrame({"%": shares.tolist()}, index=labels)
    title = f"Los {k} mejores candidatos, con T = 1"
    show(box, grouped_bars(table, title, "Probabilidad (%)", 1))
    return box


def sampling_explorer(
    model, tokenizer, text: str, k: int = 10
) -> widgets.VBox:
    """Escribe un prompt y mueve T, top-k, top-p y min-p: las k mejores
    probabilidades antes (contorno) y después, qué se pierde y ocho tiradas.

    Un prompt nuevo cuesta un forward (pulsa Intro); mover un control, ninguno.
    """
    wide = dict(layout=widgets.Layout(width="100%"))
    prompt = widgets.Text(
        value=text, description="Prompt", continuous_update=False, **wide
    )
    sizes = [1, 2, 5, 10, 20, 50, 100, 1000]
    T = widgets.FloatSlider(value=1, min=0, max=2.5, description="T")
    top_k = widgets.SelectionSlider(
        options=[(str(n), n) for n in sizes] + [("todos", 0)],
        value=0,
        description="top-k",
    )
    top_p = widgets.FloatSlider(
        value=1, min=0.05, max=1, step=0.05, description="top-p"
    )
    min_p = widgets.FloatSlider(
        value=0, min=0, max=0.5, step=0.02, description="min-p"
    )
    facts, picture = widgets.HTML(), widgets.HTML()
    now = {}  # values [V], de mejor a peor, y sus ids

    def forward(_=None):
        try:
            logits = next_logits(
                model, prompt_ids(model, tokenizer, prompt.value)
            )
        except ValueError as error:
            facts.value = f"<b>{html.escape(str(error))}</b>"
            return
        now["values"], now["ids"] = logits[0].cpu().sort(descending=True)
        refresh()

    def refresh(_=None):
        values, ids = now["values"], now["ids"]
        after = warp_logits(
            values,
            temperature=T.value,
            top_k=top_k.value or None,
            top_p=top_p.value,
            min_p=min_p.value,
        )
        before, shares = values.softmax(-1), after.softmax(-1)
        kept = shares > 0
        dice = torch.Generator().manual_seed(0)
        drawn = sample_token(after.expand(8, -1), generator=dice)
        words = " ".join(
            f"<code>{html.escape(token_label(tokenizer, i))}</code>"
            for i in ids[drawn].tolist()
        )
        facts.value = (
            '<div style="font-size:17px">Quedan '
            f"{number(int(kept.sum()), 0)} tokens de "
            f"{number(len(values), 0)}; antes de tocar nada juntaban el "
            f"{number(100 * float(before[kept].sum()), 1)} %."
            f"<br>Ocho tiradas: {words}</div>"
        )
        labels = [token_label(tokenizer, i) for i in ids[:k].tolist()]
        picture.value = bars_svg(
            labels, shares[:k].tolist(), "Después", before[:k].tolist()
        )

    prompt.observe(forward, names="value")
    for control in (T, top_k, top_p, min_p):
        control.observe(refresh, names="value")
    forward()
    rows = [widgets.HBox([T, top_k]), widgets.HBox([top_p, min_p])]
    box = widgets.VBox([prompt, *rows, facts, picture])
    values, ids = now["values"], now["ids"]
    example = warp_logits(values, top_p=0.8).softmax(-1)
    still = before_after(
        [token_label(tokenizer, i) for i in ids[:k].tolist()],
        values.softmax(-1)[:k].tolist(),
        {"T = 1 y top-p = 0,8": example[:k].tolist()},
        f"«{text}», los {k} mejores candidatos",
    )
    show(box, still)
    return box


def _candidates(tokenizer, step: GenerationStep, k: int) -> list[tuple]:
    """Los k mejores de un paso: `(etiqueta, probabilidad)`, con T = 1."""
    shares, ids = step.logits.softmax(-1).topk(k)
    labels = [token_label(tokenizer, i) for i in ids.tolist()]
    return list(zip(labels, shares.tolist()))


def generation_explorer(
    tokenizer, prompt: str, steps: list[GenerationStep], k: int = 6
) -> widgets.VBox:
    """Recorre una generación ya hecha: en cada paso, el texto hasta ahí, los
    k candidatos del modelo y cuál se eligió."""
    slider = widgets.IntSlider(
        value=1, min=1, max=len(steps), description="Paso"
    )
    text, picture = widgets.HTML(), widgets.HTML()

    def refresh(_=None):
        step = steps[slider.value - 1]
        ids = [s.token_id for s in steps[: slider.value]]
        written = html.escape(tokenizer.decode(ids[:-1]))
        chosen = token_label(tokenizer, step.token_id)
        text.value = (
            '<div style="font-size:18px;white-space:pre-wrap">'
            f'<span style="color:#666">{html.escape(prompt)}</span>{written}'
            f'<b style="background:#FBE3B0">{html.escape(chosen)}</b></div>'
            f'<div style="font-size:15px">Entran {step.processed} tokens, sale '
            f"uno. {'Fin: ' + step.stop + '.' if step.stop else ''}</div>"
        )
        best = _candidates(tokenizer, step, k)
        labels, shares = zip(*best)
        place = labels.index(chosen) if chosen in labels else None
        picture.value = bars_svg(
            labels, shares, f"Paso {slider.value}", chosen=place
        )

    slider.observe(refresh, names="value")
    refresh()
    box = widgets.VBox([slider, text, picture])
    rows = [
        (token_label(tokenizer, s.token_id), _candidates(tokenizer, s, 3))
        for s in steps[:10]
    ]
    show(box, steps_strip(rows, f"«{prompt}», paso a paso"))
    return box


def live(tokenizer, steps) -> list[GenerationStep]:
    """Escribe el texto según sale, con los tokens por segundo, y devuelve los
    pasos. Interrumpir el kernel (■) conserva lo generado."""
    box = widgets.HTML()
    note = "(Texto en directo: se mueve con el kernel en marcha.)"
    display({"text/plain": note} | _view(box), raw=True)
    done, text = [], []

    def watched():
        for step in steps:
            done.append(step)
            yield step

    def write(piece):
        text.append(piece)
        rate = len(done) / done[-1].seconds
        box.value = (
            '<div style="font-size:18px;white-space:pre-wrap">'
            f"{html.escape(''.join(text))}</div><b>{len(done)} tokens · "
            f"{number(rate, 1)} tokens/s</b>"
        )

    return stream(tokenizer, watched(), write)


def cache_explorer(
    tokenizer, ids: list[int], prompt: int, bytes_per_token: int
) -> widgets.VBox:
    """La caché, paso a paso: qué tokens guarda, cuál pasa ahora por la red y
    cuánto ocupa.

    `ids`: los del prompt (`prompt` de ellos) y los nuevos.
    """
    labels = [token_label(tokenizer, i) for i in ids]
    slider = widgets.IntSlider(
        value=1, min=1, max=len(ids) - prompt, description="Paso"
    )
    strip, facts = widgets.HTML(), widgets.HTML()

    def refresh(_=None):
        step = slider.value
        have = prompt + step - 1  # tokens en la caché al acabar el paso
        fresh = prompt if step == 1 else 1
        pieces = []
        for i, label in enumerate(labels[: have + 1]):
            color, note = "#56B4E9", "en la caché"
            if i >= have - fresh:
                color, note = "#E69F00", "pasa por la red"
            if i == have:
                color, note = "#FFFFFF", "recién elegido"
            pieces.append(
                f'<span title="{note}" style="background:{color};color:#000;'
                "padding:3px 4px;margin:1px;border:1px solid #999;"
                'border-radius:3px;display:inline-block">'
                f"{html.escape(label)}</span>"
            )
        about = f"Paso {step}: {fresh} por la red, {have} en la caché"
        strip.value = (
            f'<div role="img" aria-label="{about}" style="font:16px/2 '
            f'monospace">{"".join(pieces)}</div>'
        )
        without = step * prompt + step * (step - 1) // 2
        facts.value = (
            '<div style="font-size:16px">Naranja: por la red, '
            f"{fresh}. Azul: ya guardados, {have - fresh}. La caché ocupa "
            f"{number(have * bytes_per_token / 1024, 0)} KiB.<br>Tokens "
            f"procesados hasta aquí: {have} con caché, {without} sin ella.</div>"
        )

    slider.observe(refresh, names="value")
    refresh()
    box = widgets.VBox([slider, strip, facts])
    show(box, cache_growth(labels, prompt, "Lo que pasa por la red"))
    return box


def cost_explorer(ttft_per_token: float, tpot: float) -> widgets.VBox:
    """Calculadora de una llamada a una API: lo que cuesta y lo que tarda.

    `ttft_per_token` y `tpot`: segundos por token de entrada y de salida. Los
    precios, por millón de tokens, los pone quien la usa.
    """
    style = {"description_width": "150px"}
    tokens_in = widgets.IntSlider(1000, 10, 20_000, 10)
    tokens_out = widgets.IntSlider(300, 1, 4000, 1)
    price_in = widgets.FloatSlider(1.0, min=0, max=10, step=0.05)
    price_out = widgets.FloatSlider(4.0, min=0, max=40, step=0.05)
    labels = {
        "Tokens de entrada": tokens_in,
        "Tokens de salida": tokens_out,
        "Entrada, por millón": price_in,
        "Salida, por millón": price_out,
    }
    for label, slider in labels.items():
        slider.description, slider.style = label, style
        slider.layout.width = "520px"
    result = widgets.HTML()

    def table() -> pd.DataFrame:
        return pd.DataFrame(
            {
                "céntimos": [
                    tokens_in.value * price_in.value / 1e4,
                    tokens_out.value * price_out.value / 1e4,
                ],
                "segundos": [
                    tokens_in.value * ttft_per_token,
                    (tokens_out.value - 1) * tpot,
                ],
            },
            index=["entrada (prefill)", "salida (decode)"],
        )

    def refresh(_=None):
        rows = "".join(
            f"<tr><td>{name}</td><td>{number(cents, 3)}</td>"
            f"<td>{number(seconds, 1)}</td></tr>"
            for name, cents, seconds in table().itertuples()
        )
        cents, seconds = table().sum()
        result.value = (
            '<table style="font-size:16px;line-height:1.8">'
            "<tr><th></th><th>céntimos</th><th>segundos</th></tr>"
            f"{rows}<tr><th>total</th><th>{number(cents, 3)}</th>"
            f"<th>{number(seconds, 1)}</th></tr></table>"
        )

    for slider in labels.values():
        slider.observe(refresh, names="value")
    refresh()
    box = widgets.VBox([*labels.values(), result])
    title = "Una llamada: 1000 tokens de entrada y 300 de salida"
    about = "Céntimos, a 1 y 4 por millón de tokens"
    show(box, grouped_bars(table()[["céntimos"]], title, about, 2))
    return box
