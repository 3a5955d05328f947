"""Los tokens como texto que se va escribiendo, sin partir un carácter.

No sabe nada de modelos: recibe ids o pasos y un tokenizador.
"""

from collections.abc import Callable, Iterable, Iterator

from . import CourseError


def text_pieces(tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """El texto de los ids, a trozos y según llegan, sin partir un carácter.

    Un trozo se retiene mientras acabe en «�»: puede que al siguiente token le
    falten bytes por traer. Unidos, los trozos dan `decode` de todos los ids.
    La ventana (el trozo anterior y el actual) es la de TGI y vLLM.
    """
    seen, start, done = [], 0, 0
    for token_id in ids:
        seen.append(token_id)
        before = tokenizer.decode(seen[start:done])
        now = tokenizer.decode(seen[start:])
        if len(now) > len(before) and not now.endswith("�"):
            yield now[len(before) :]
            start, done = done, len(seen)
    before = tokenizer.decode(seen[start:done])
    if rest := tokenizer.decode(seen[start:])[len(before) :]:
        yield rest


def stream(
    tokenizer, steps: Iterable, write: Callable[[str], None] | None = None
) -> list:
    """Escribe el texto según se genera y devuelve los pasos dados.

    `steps`: los de `generate_steps`. `write` recibe cada trozo; sin él, se
    imprime. Si interrumpes el kernel (■), escribe lo que estuviera a medias y
    devuelve lo generado hasta ahí en vez de perderlo.
    """
    write = write or (lambda piece: print(piece, end="", flush=True))
    done, cut = [], False

    def ids():
        nonlocal cut
        try:
            for step in steps:
                if not hasattr(step, "token_id"):
                    raise CourseError(
                        "stream recibe los pasos de generate_steps, no ids: "
                        "de ids, print(tokenizer.decode(ids))."
                    )
                done.append(step)
                yield step.token_id
        except KeyboardInterrupt:
            cut = True  # y text_pieces suelta lo que retenía

    try:
        for piece in text_pieces(tokenizer, ids()):
            write(piece)
    except KeyboardInterrupt:
        cut = True
    if cut:
        print(f"\n[Interrumpido: conservas {len(done)} tokens.]")
    return done
