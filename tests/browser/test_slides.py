"""Cada diapositiva, en Chromium sin red: cabe, se lee y no le falta nada."""

import pytest

from tools import notebooks, slides

NOTEBOOKS = notebooks("notebooks")
SMALLEST = 15.5  # píxeles, a 1280 × 720
SHRUNK = 0.7  # una figura, frente a su tamaño natural (letra de 14 px o más)
# De la diapositiva a la vista: hasta dónde llega, la letra menor, imágenes
# rotas y fórmulas sin dibujar.
LOOK = """() => {
  const s = Reveal.getCurrentSlide(), box = s.getBoundingClientRect();
  let right = 0, bottom = 0, small = 99;
  const walk = document.createTreeWalker(s, NodeFilter.SHOW_ELEMENT);
  for (let e = walk.nextNode(); e; e = walk.nextNode()) {
    if (e.closest('aside')) continue;
    const r = e.getBoundingClientRect();
    if (!r.width || !r.height) continue;
    right = Math.max(right, r.right); bottom = Math.max(bottom, r.bottom);
    const own = [...e.childNodes].some(
      n => n.nodeType === 3 && n.textContent.trim());
    if (own) small = Math.min(small, parseFloat(getComputedStyle(e).fontSize));
  }
  return {
    right, bottom, small,
    title: (s.innerText || '').trim().slice(0, 60),
    empty: !s.innerText.trim() && !s.querySelector('img'),
    scale: Math.min(9, ...[...s.querySelectorAll('img')].map(
      i => i.getBoundingClientRect().width / i.naturalWidth)),
    broken: [...s.querySelectorAll('img')].filter(i => !i.naturalWidth).length,
    formula: /\\$[^$\\n]+\\$|\\\\\\(|\\\\frac/.test(s.innerText),
  };
}"""


@pytest.fixture(scope="session")
def decks(tmp_path_factory):
    """Las presentaciones, recién hechas, en una carpeta temporal."""
    import shutil

    folder = tmp_path_factory.mktemp("diapositivas")
    source = slides.reveal()
    for part in slides.PARTS_OF_REVEAL:
        shutil.copytree(source / part, folder / "reveal.js" / part)
    slides.OUT = folder
    return {path.name: slides.convert(path) for path in NOTEBOOKS}


def walk(page, deck):
    """Pasa la presentación entera; da lo que se ve en cada parada."""
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto(deck.as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    page.wait_for_load_state("load")
    seen = []
    while True:
        page.wait_for_timeout(30)
        seen.append(page.evaluate(LOOK))
        if page.evaluate("Reveal.isLastSlide()"):
            return seen
        page.evaluate("Reveal.next()")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_every_slide_fits_and_is_complete(page, decks, path):
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda m: m.type == "error" and errors.append(m.text),
    )
    seen = walk(page, decks[path.name])
    assert len(seen) > 30
    wrong = [
        (i, s)
        for i, s in enumerate(seen, 1)
        if s["bottom"] > 721
        or s["right"] > 1281
        or s["small"] < SMALLEST
        or s["scale"] < SHRUNK
        or s["empty"]
        or s["broken"]
        or s["formula"]
    ]
    assert not wrong, wrong
    assert not errors and not page.blocked, (errors, page.blocked)


def test_speaker_notes_are_there(decks):
    for path in NOTEBOOKS:
        html = decks[path.name].read_text("utf-8")
        assert html.count('<aside class="notes">') >= 5, path.name
        assert "minutos" in html


def test_a_slide_that_does_not_fit_is_seen(page, decks, tmp_path):
    html = decks[NOTEBOOKS[0].name]
    text = html.read_text("utf-8")
    broken = html.with_name("rota.html")
    many = "<p>renglón</p>" * 60
    broken.write_text(text.replace("</h1>", f"</h1>{many}", 1), "utf-8")
    assert walk(page, broken)[0]["bottom"] > 721
