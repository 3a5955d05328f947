"""Muchas peticiones a la vez: cada una, lo que escribiría sola; y las páginas,
ni perdidas ni repetidas."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenatoken import CourseError
from tokenatoken.batch_invariant import batch_invariant
from tokenatoken.cache import make_cache
from tokenatoken.forward import forward
from tokenatoken.pages import PagedLayer, Pages, aim, keys_of, slots
from tokenatoken.sampling import Sampler
from tokenatoken.scheduler import Request, in_turns, prefill_first
from tokenatoken.serving import Rehearsal, Server
from tools.serving import alone

from .tiny import CONFIGS, VOCABULARY, random_ids, tiny_model

PROMPTS = st.lists(
    st.lists(st.integers(1, 5), min_size=1, max_size=14),
    min_size=1,
    max_size=6,
)


def check_pages(server) -> None:
    """Cada página, o libre o en tantas tablas como usuarios dice."""
    pages, counted = server.pages, [0] * len(server.pages.users)
    for request in server.waiting + server.running + server.done:
        for page in request.table:
            counted[page] += 1
    assert counted == pages.users
    assert set(pages.free) == {p for p, n in enumerate(counted) if not n}
    assert {pages.keys[page]: page for page in pages.keys} == pages.known
    assert not any(r.stored for r in server.waiting + server.done)


@settings(max_examples=60, deadline=None)
@given(
    prompts=PROMPTS,
    data=st.data(),
    size=st.integers(1, 5),
    chunk=st.integers(1, 6),
    most=st.integers(1, 4),
    policy=st.sampled_from([in_turns, prefill_first]),
    name=st.sampled_from(["llama", "qwen2", "phi3", "mistral", "gemma3"]),
    reuse=st.booleans(),
)
def test_each_one_writes_what_it_would_alone(
    prompts, data, size, chunk, most, policy, name, reuse
):
    """Llegadas, tamaños, cancelaciones y bifurcaciones al azar."""
    model = tiny_model(name)
    limits = data.draw(st.lists(st.integers(1, 7), min_size=6, max_size=6))
    longest = max(map(len, prompts)) + 7
    total = -(-longest // size) + data.draw(st.integers(0, 6))
    options = dict(chunk=chunk, most=most, policy=policy, reuse=reuse)
    server = Server(model, pages=total, size=size, **options)
    late = [
        Request(str(i), ids, limit)
        for i, (ids, limit) in enumerate(zip(prompts, limits))
    ]
    sent, steps = [], 0
    while late or server.waiting or server.running:
        idle = not server.waiting and not server.running
        if late and (idle or data.draw(st.booleans())):
            sent.append(late.pop(0))
            server.submit(sent[-1])
        if sent and data.draw(st.integers(0, 9)) == 0:
            victim = data.draw(st.sampled_from(sent))
            if not victim.stop:
                server.cancel(victim.name)
        ready = [r for r in server.running if r.pending == 1]
        room = len(server.running) < most
        if ready and room and data.draw(st.integers(0, 9)) == 0:
            twin = f"{ready[0].name}'{steps}"
            server.fork(ready[0].name, twin)
            sent.append(server.running[-1])
        if server.waiting or server.running:
            server.step()
        check_pages(server)
        steps += 1
        assert steps < 500
    assert len(server.done) == len(sent)
    for request in sent:
        expected = alone(model, request)[: len(request.new)]
        assert request.new == expected
        if request.stop != "cancelada":
            assert request.new == alone(model, request)
    assert len(server.pages.free) == total


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_too(name):
    """Los de tres filas por páginas, los de cada una con su caché."""
    model, size = tiny_model(name), 3
    lengths, tables = (5, 9, 12), ([7, 2], [0, 5, 1, 6], [9, 3, 8, 4, 10])
    rows = [random_ids(n) for n in lengths]
    cache = make_cache(model, PagedLayer, room=11 * size)
    last = torch.tensor([[3], [4], [5]])
    with torch.no_grad():
        alone = []
        for ids, n, table, token in zip(rows, lengths, tables, last):
            own = make_cache(model)
            prefill = forward(model, ids, own)
            mask = aim(cache, [slots(table, size, n)], n)
            ours = forward(model, ids, cache, mask)
            torch.testing.assert_close(ours, prefill)
            alone.append(forward(model, token[None], own))
        places = [slots(t, size, n + 1) for t, n in zip(tables, lengths)]
        together = forward(model, last, cache, aim(cache, places, 1))
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", ["llama", "qwen2"])
@pytest.mark.parametrize("chunk", [3, 64])
def test_the_same_bits_inside_batch_invariant(name, chunk):
    model, seen = tiny_model(name), {}

    def spy(logits, ids):
        seen.setdefault(tuple(ids[0].tolist()), []).append(logits.clone())
        return logits.argmax(-1)

    prompts = [random_ids(n)[0].tolist() for n in (4, 7, 11)]
    with batch_invariant(model):
        for most in (1, 3):
            server = Server(model, size=4, chunk=chunk, most=most)
            server.run(
                Request(str(i), p, 6, 0.0, spy) for i, p in enumerate(prompts)
            )
    assert all(len(pair) == 2 for pair in seen.values())
    assert all(torch.equal(*pair) for pair in seen.values())


def dice(seed: int) -> Sampler:
    generator = torch.Generator().manual_seed(seed)
    return Sampler(temperature=2.0, generator=generator)


def test_each_one_with_its_own_dice():
    """Con muestreo, la semilla de cada una, vaya con quien vaya."""
    model, ids = tiny_model("qwen2"), random_ids(9)[0].tolist()

    def texts(most, chunk):
        server = Server(model, size=2, chunk=chunk, most=most)
        made = [Request(str(i), ids, 8, choose=dice(i)) for i in range(4)]
        server.run(made)
        return [request.new for request in made]

    assert texts(1, 64) == texts(4, 2)
    assert len({tuple(text) for text in texts(4, 2)}) > 1


def test_forks_share_until_they_write():
    model, ids = tiny_model("llama"), random_ids(6)[0].tolist()
    server = Server(model, size=4, pages=8, policy=prefill_first)
    server.submit(Request("a", ids, 6))
    server.step()
    server.fork("a", "b", lambda logits, ids: logits.argmin(-1))
    first, second = server.running
    assert first.table == second.table and first.table is not second.table
    assert max(server.pages.users) == 2
    server.step()
    assert first.table[0] == second.table[0]
    assert first.table[1] != second.table[1]
    server.run()
    assert first.new == alone(model, first) != second.new
    assert second.new[0] == first.new[0] and len(second.new) == 6


def test_who_is_sent_back_goes_first():
    server = Rehearsal(lambda rows, m: 1.0, pages=4, size=2, most=2)
    server.reuse = False
    for i in range(3):
        server.submit(Request(str(i), [i] * 2, 6))
    while "1" not in [r.name for r in server.waiting] or not server.log:
        server.step()
    assert [r.name for r in server.waiting] == ["1", "2"]
    assert [r.name for r in server.run()] == ["0", "1", "2"]


def test_pages_that_are_free_but_wanted_count_as_taken():
    """Dos páginas libres con el texto de «b»: si entra, no queda otra."""
    server = Rehearsal(lambda rows, m: 1.0, pages=3, size=2, most=2)
    server.run([Request("a", [1, 2, 3, 4], 1)])
    server.submit(Request("c", [7], 2))
    server.step()
    server.submit(Request("b", [1, 2, 3, 4, 5], 1))
    server.step()
    assert [r.name for r in server.run()] == ["a", "c", "b"]
    check_pages(server)


def test_a_shared_beginning_is_computed_once():
    model, head = tiny_model("llama"), random_ids(12)[0].tolist()
    server, passed = Server(model, size=4, most=1), []
    tails = [[1, 2], [3, 4], [1, 2]]
    server.run(Request(str(i), head + t, 2) for i, t in enumerate(tails))
    for _, _, m, names in server.log:
        passed.append(m * len(names))
    assert passed == [14, 1, 2, 1, 2, 1]
    texts = [alone(model, request) for request in server.done]
    assert [request.new for request in server.done] == texts


def test_the_parent_counts():
    """Dos páginas con los mismos tokens y distinto comienzo no son la misma."""
    a, b = keys_of([1, 2, 9, 9], 2), keys_of([3, 4, 9, 9], 2)
    assert a[1] != b[1]
    assert keys_of([1, 23], 2) != keys_of([12, 3], 2)
    pages = Pages(4, 2)
    for key in a:
        pages.remember(pages.take(), key)
    assert pages.find([1, 2, 9, 9, 5]) == [0, 1]
    assert pages.find([1, 2, 9, 9]) == [0]  # el último token, siempre fuera
    assert pages.find([3, 4, 9, 9, 5]) == []


def test_a_free_page_keeps_its_text_until_taken():
    pages = Pages(2, 1)
    page = pages.take()
    pages.remember(page, b"k")
    pages.release(page)
    assert pages.known == {b"k": page}
    pages.take(), pages.take()
    assert not pages.known and not pages.free


def test_short_of_memory_the_last_one_starts_again():
    model = tiny_model("qwen2")
    made = [Request(str(i), random_ids(5)[0].tolist(), 9) for i in range(3)]
    server = Server(model, pages=7, size=2, reuse=False)
    server.run(made)
    prefills = [names for _, _, m, names in server.log if m > 1]
    assert len(prefills) > 3  # alguna leyó su prompt dos veces
    assert [r.new for r in made] == [alone(model, r) for r in made]
    assert server.done[0].name == "0"


def test_an_interruption_loses_nothing():
    model = tiny_model("llama")
    made = [Request(str(i), random_ids(5)[0].tolist(), 4) for i in range(2)]
    server = Server(model, size=2)
    whole, broken = server.compute, []

    def compute(work, m):
        tokens = whole(work, m)
        if len(broken) < 2 and len(server.log) in (1, 3):
            broken.append(1)
            raise KeyboardInterrupt
        return tokens

    server.compute = compute
    for request in made:
        server.submit(request)
    while server.waiting or server.running:
        try:
            server.step()
        except KeyboardInterrupt:
            continue
    assert len(broken) == 2
    assert [r.new for r in made] == [alone(model, r) for r in made]


def test_it_stops_at_the_models_end():
    model, ids = tiny_model("llama"), random_ids(5)
    first = alone(model, Request("", ids[0].tolist(), 1))
    server = Server(model)
    server.ends = set(first)
    (done,) = server.run([Request("a", ids[0].tolist(), 5)])
    assert (done.new, done.stop) == (first, "token de fin")


def test_rehearsal_counts_the_time_it_is_told():
    server = Rehearsal(lambda rows, m: 1.0 + m, chunk=4, most=2)
    made = [Request("a", range(6), 3), Request("b", [7], 2, arrival=20.0)]
    server.run(made)
    assert made[0].times == [8.0, 10.0, 12.0]  # 4, 2, 1, 1
    assert made[1].times == [22.0, 24.0]
    assert [row[2] for row in server.log] == [4, 2, 1, 1, 1, 1]


BAD = {
    "pages": (dict(pages=0), "al menos 1 página"),
    "size": (dict(size=0), "al menos 1 página"),
    "chunk": (dict(chunk=0), "chunk=0 no vale"),
    "most": (dict(most=1.5), "most=1.5 no vale"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_servers(name):
    options, words = BAD[name]
    with pytest.raises(CourseError, match=words):
        Server(tiny_model("llama"), **options)


@pytest.mark.parametrize(
    "request_, words",
    [
        (Request("a", [], 3), "ningún token"),
        (Request("x", [1], 3), "Ya hay una petición"),
        (Request("a", [1], 0), "limit=0 no vale"),
        (Request("a", [1] * 30, 10), "Pide menos tokens"),
        (Request("a", [VOCABULARY + 7], 3), "no existe"),
        (Request("a", "hola", 3), "lista de enteros"),
        (Request("a", None, 3), "ningún token"),
        (Request("a", [[1], [2]], 3), "lista de enteros"),
        (Request("a", [1], 3, arrival=None), "los segundos"),
    ],
)
def test_bad_requests(request_, words):
    server = Server(tiny_model("llama"), pages=4, size=4)
    server.submit(Request("x", [1, 2], 3))
    with pytest.raises(CourseError, match=words):
        server.submit(request_)
    assert [r.name for r in server.run()] == ["x"]  # lo demás sigue


def test_bad_turns():
    server = Server(tiny_model("llama"))
    with pytest.raises(CourseError, match="no se ha pedido"):
        server.cancel("x")
    server.submit(Request("x", [1, 2], 3))
    server.cancel("x")
    with pytest.raises(CourseError, match="se canceló"):
        server.cancel("x")
    server.policy = lambda running, step: []
    server.submit(Request("y", [1, 2], 3))
    with pytest.raises(CourseError, match="nadie avanza"):
        server.step()
    with pytest.raises(CourseError, match="aún lee su prompt"):
        server.fork("y", "z")
    server.policy, server.most = prefill_first, 1
    server.step()
    with pytest.raises(CourseError, match="ya van 1 a la vez"):
        server.fork("y", "z")
    server.policy = lambda running, step: running * 2
    with pytest.raises(CourseError, match="sin repetir"):
        server.step()


def test_one_bad_request_stops_none():
    """`run` lo comprueba todo antes de empezar: nada se pierde a medias."""
    server = Server(tiny_model("llama"), pages=4, size=4)
    made = [Request("a", [1], 2), Request("b", [1] * 40, 2)]
    with pytest.raises(CourseError, match="Pide menos tokens"):
        server.run([*made, Request("c", [2], 2)])
    with pytest.raises(CourseError, match="Ya hay una petición «a»"):
        server.run([made[0], Request("a", [2], 2)])
    assert not server.waiting and not server.names
    server.run(made[:1])
    with pytest.raises(CourseError, match="ya pasó por un servidor"):
        Server(tiny_model("llama")).submit(made[0])


def test_a_choose_that_fails_ends_only_its_own():
    def broken(logits, ids):
        raise RuntimeError("uy")

    made = [
        Request("a", [1, 2], 3, choose=broken),
        Request("b", [1, 2], 3, choose=lambda logits, ids: 10**6),
        Request("c", [1, 2], 3),
    ]
    server = Server(tiny_model("llama"))
    server.run(made)
    assert made[0].stop == "choose ha fallado: uy"
    assert "no existe" in made[1].stop
    assert made[2].new == alone(server.model, made[2])
    check_pages(server)


@pytest.mark.parametrize("policy", [in_turns, prefill_first])
def test_a_common_head_is_read_once_even_if_they_arrive_together(policy):
    model, head = tiny_model("qwen2"), random_ids(12)[0].tolist()
    made = [Request(str(i), [*head, i, 7], 3) for i in range(5)]
    server = Server(model, size=4, chunk=5, policy=policy)
    server.run(made)
    passed = sum(m * len(names) for _, _, m, names in server.log)
    assert passed == 12 + 5 * (2 + 2)
    assert [r.new for r in made] == [alone(model, r) for r in made]
    check_pages(server)


def test_bad_pages():
    pages = Pages(1, 4)
    page = pages.take()
    with pytest.raises(CourseError, match="ninguna página libre"):
        pages.take()
    pages.release(page)
    with pytest.raises(CourseError, match="ya estaba libre"):
        pages.release(page)
