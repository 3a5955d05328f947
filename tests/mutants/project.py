"""Proyecto final: la solución con un error, y las pruebas que lo tienen que ver.

`MUTANTS[nombre] = (ids, viejo, nuevo, viejo, nuevo…)`: cada `viejo` está una
sola vez en `solutions/mi_generador.py`.
"""

LOOP = "            return\n\n\ndef note"
STOPS = (
    "        if found := [text.index(stop) for stop in stops if stop in text]:"
)
SURE = "        sure = len(text) - doubt\n"
DECODED = "        now = tokenizer.decode(seen[start:])\n"
MUTANTS = {
    # lo que no es suyo
    "importa el muestreo del curso": (
        "b01",
        "from tokenatoken import number",
        "from tokenatoken import number, sampling",
    ),
    "llama a generate": (
        "b01 b12",
        "        fresh = ids[:, cache.get_seq_length() :]  # [1, m]: n, y luego 1\n",
        "        model.generate(ids)\n"
        "        fresh = ids[:, cache.get_seq_length() :]\n",
    ),
    # elegir
    "multiplica por la temperatura": (
        "b02 b06 b11",
        "logits.float() / settings.temperature",
        "logits.float() * settings.temperature",
    ),
    "no pasa a fp32": ("b02", "logits.float() /", "logits /"),
    "top-k sin empates": (
        "b03",
        "        logits = logits.masked_fill(logits < logits.topk(k)[0][:, -1:], out)\n",
        "        kept = logits.topk(k)\n"
        "        logits = torch.full_like(logits, out).scatter(-1, kept[1], kept[0])\n",
    ),
    "top-k mayor que V": (
        "b03",
        "min(settings.top_k, logits.shape[-1])",
        "settings.top_k",
    ),
    "top-p con el borde de otro lado": (
        "b04",
        "<= 1 - settings",
        "< 1 - settings",
    ),
    "top-p que quita al mejor": ("b04", "        worst[:, -1] = False\n", ""),
    "min-p absoluto": ("b05", " * shares.amax(-1, keepdim=True)", ""),
    "top-p antes que la temperatura": (
        "b06",
        "cumsum(-1) <= 1 - settings.top_p",
        "cumsum(-1) <= 1 - settings.top_p",
        "ordered, order = logits.sort(-1)",
        "ordered, order = (logits * settings.temperature).sort(-1)",
    ),
    "T = 0 como T pequeña": (
        "b08",
        "        return logits.argmax(-1)  # [B]; si empatan, el de menor id\n",
        "        return (logits + 1e-4 * torch.rand_like(logits)).argmax(-1)\n",
    ),
    "T = 0 sin rama": (
        "b07 b08",
        "    if settings.temperature == 0:\n",
        "    if settings.temperature == -1:\n",
    ),
    "empates: el último": (
        "b08",
        "logits.argmax(-1)  # [B]",
        "logits.shape[-1] - 1 - logits.flip(-1).argmax(-1)  # [B]",
    ),
    "semilla de adorno": (
        "b09",
        "        generator.manual_seed(settings.seed)\n",
        "        pass\n",
    ),
    "el generador de la semilla, en cada paso": (
        "b09",
        "    return lambda logits, ids: choose(logits, settings, generator)",
        "    return lambda logits, ids: choose(\n"
        "        logits, settings, generator.manual_seed(settings.seed or 1)\n"
        "    )",
    ),
    "azar global": ("b10", "1, generator=generator)", "1)"),
    "siembra el global": (
        "b10",
        "        generator.manual_seed(settings.seed)\n",
        "        generator.manual_seed(settings.seed)\n"
        "        torch.manual_seed(settings.seed)\n",
    ),
    "sortea sin filtros": (
        "b11",
        "    shares = warp(logits, settings).softmax(-1)  # [B, V]\n"
        "    return torch",
        "    shares = logits.softmax(-1)\n    return torch",
    ),
    # repetir
    "la penúltima posición": (
        "b12 p05 p06",
        "logits_to_keep=1",
        "logits_to_keep=2",
        "logits[:, -1].float()  # [1, V]",
        "logits[:, 0].float()",
    ),
    "uno de más": (
        "b12 b13 p01",
        "range(settings.max_new_tokens)",
        "range(settings.max_new_tokens + 1)",
    ),
    "un 0 no es fin": (
        "b14",
        "set(ends or ())",
        "set(ends or ())",
        "{ends} if isinstance(ends, int)",
        "{ends} if isinstance(ends, int) and ends",
    ),
    "solo el primero de los fines": (
        "b14 b15",
        "else set(ends or ())",
        "else set((ends or ())[:1])",
    ),
    "no para en el fin": ("b15 o08", LOOP, "            pass\n\n\ndef note"),
    "el fin no se entrega": (
        "b15",
        "        yield int(token)\n        if ended:\n            return\n",
        "        if ended:\n            return\n        yield int(token)\n",
    ),
    "una lista al final": (
        "b16",
        "        yield int(token)\n        if ended:\n            return\n",
        "        made = [*locals().get('made', ()), int(token)]\n"
        "        if ended:\n            break\n"
        "    yield from made\n",
    ),
    "escribe en el prompt": (
        "b17",
        "    start, pick = time.perf_counter()",
        "    ids[:, 0] = ids[:, 0].clamp(max=2)\n"
        "    start, pick = time.perf_counter()",
    ),
    "el turno, sin abrir": (
        "b18 o13",
        "add_generation_prompt=True",
        "add_generation_prompt=False",
    ),
    "el diccionario de la plantilla": (
        "b18",
        '    holes = {chr(0xF0000 + i): m["content"] for i, m in enumerate(messages)}\n',
        "    return tokenizer.apply_chat_template(\n"
        "        messages, add_generation_prompt=True\n    )\n"
        '    holes = {chr(0xF0000 + i): m["content"] for i, m in enumerate(messages)}\n',
    ),
    # la caché
    "un forward tras el último": (
        "p01 p02",
        "        if ended:\n            return\n",
        "        forward(model, token[:, None], cache)\n"
        "        if ended:\n            return\n",
    ),
    "sin caché": (
        "p02 p06 p07 o14",
        "        fresh = ids[:, cache.get_seq_length() :]  # [1, m]: n, y luego 1\n",
        "        fresh = ids\n        cache = DynamicCache()\n",
        "past_key_values=cache, use_cache=True",
        "past_key_values=DynamicCache(), use_cache=True",
    ),
    "la posición, una de más": (
        "p03 p04 p06",
        "    before = cache.get_seq_length()\n",
        "    before = cache.get_seq_length()\n"
        "    places = torch.arange(ids.shape[1])[None] + before\n"
        "    options['position_ids'] = places + (before > 0)\n",
    ),
    "la posición, dentro de la ventana": (
        "p04",
        "    before = cache.get_seq_length()\n",
        "    before = cache.get_seq_length()\n"
        "    places = torch.arange(ids.shape[1])[None] + before\n"
        "    options['position_ids'] = places.clamp(max=20)\n",
    ),
    "todas las filas": ("p05", ", logits_to_keep=1", ""),
    "no guarda nada": (
        "p02 p06 o04",
        "past_key_values=cache, use_cache=True, logits",
        "logits",
    ),
    "siempre con caché nueva": (
        "p07 o04 o14",
        "DynamicCache() if cache is None else cache",
        "DynamicCache()",
    ),
    "cada id, suelto": (
        "p08 p09 o10",
        '        if len(now) > len(before) and not now.endswith("�"):',
        "        yield tokenizer.decode([token])\n        if False:",
    ),
    "no espera al carácter": (
        "p09 o10",
        ' and not now.endswith("�")',
        "",
    ),
    "sin vaciar al final": (
        "p10",
        "        yield rest\n",
        "        pass\n",
    ),
    "lo junta todo": (
        "p11 o09 o10",
        "    seen, start, done = [], 0, 0  # se vuelve a leer solo desde start\n",
        "    seen, start, done, ids = [], 0, 0, list(ids)\n",
    ),
    "lee desde el principio": (
        "p12",
        "            start, done = done, len(seen)",
        "            start, done = 0, len(seen)",
    ),
    # las paradas
    "enseña la parada": (
        "p13 p16",
        "                yield text[: min(found)]",
        "                yield text",
    ),
    "parada solo al final del trozo": (
        "p13",
        STOPS,
        "        if found := [\n"
        "            len(text) - len(stop) for stop in stops if text.endswith(stop)\n"
        "        ]:",
    ),
    "no retiene": ("p14 p15", SURE, "        sure = len(text)\n"),
    "compara con los dos últimos": (
        "p15",
        "        text += piece\n        if found",
        "        text = text + piece\n"
        "        last, text = (piece, last + piece) if text else (piece, piece)\n"
        "        if found",
        '    text = ""  # lo que aún no se ha enseñado\n',
        '    text = last = ""\n',
    ),
    "gana la primera de la lista": (
        "p16",
        "            if min(found):\n                yield text[: min(found)]\n",
        "            if found[0]:\n                yield text[: found[0]]\n",
    ),
    "pierde lo retenido al acabar": (
        "p17",
        "    if text:\n        yield text\n",
        "    pass\n",
    ),
    "retiene siempre": (
        "p17",
        SURE,
        "        sure = max(0, len(text) - max(map(len, stops or [''])))\n",
    ),
    "no acaba en la parada": (
        "p18 o09",
        "                yield text[: min(found)]\n            return\n",
        "                yield text[: min(found)]\n"
        "            for _ in pieces:\n                pass\n"
        "            return\n",
    ),
    # la conversación
    "temperatura sin comprobar": (
        "o01 o17",
        "(0 <= s.temperature < math.inf,",
        "(True,",
    ),
    "top_p = 0 vale": ("o01", "or 0 < s.top_p <= 1", "or 0 <= s.top_p <= 1"),
    "una parada vacía vale": ("o01", "texts and all(s.stop)", "texts"),
    "no mira si cabe": (
        "o02 o17",
        "    if n + new > room:\n",
        "    if n > 10 * room:\n",
    ),
    "un vacío vale": ("o02", "    if not n:\n", "    if n < 0:\n"),
    "lo que cabe justo no vale": (
        "o02",
        "    if n + new > room:\n",
        "    if n + new >= room:\n",
    ),
    "crop con positivos": (
        "o03",
        "cache.crop(same - cache.get_seq_length())",
        "cache.crop(cache.get_seq_length() - same)",
    ),
    "no deja ninguno por pasar": (
        "o03",
        "same, most = 0, len(ids) - 1",
        "same, most = 0, len(ids)",
    ),
    "compara longitudes": (
        "o03 o06",
        "held[same : same + 1] == [ids[same]]",
        "len(held) > same",
    ),
    "no recuerda lo guardado": (
        "o04",
        "            self.held = [*ids, *new][: self.cache.get_seq_length()]",
        "            self.held = []",
    ),
    "olvida la respuesta": (
        "o05",
        '                answer["content"] += piece\n',
        "                pass\n",
    ),
    "cree que guarda el último": (
        "o05 o07",
        "            self.held = [*ids, *new][: self.cache.get_seq_length()]",
        "            self.held = [0, *ids, *new]",
        "    same, most = 0, len(ids) - 1\n",
        "    held = held[1:] if held[:1] == [0] else held\n"
        "    same, most = min(len(held), len(ids) - 1), 0\n",
    ),
    "una caché para todos": (
        "o07",
        "        self.cache, self.held = DynamicCache(), []  # los ids que guarda\n",
        "        self.cache, self.held = SHARED, []\n",
        "class Chat:\n",
        "SHARED = DynamicCache()\n\n\nclass Chat:\n",
        "cache.crop(same - cache.get_seq_length())",
        "cache.crop(same - len(held))",
    ),
    "enseña el fin": (
        "o08 o10",
        "        if token not in ends:\n",
        "        if True:\n",
    ),
    "solo el fin del tokenizador": (
        "o08",
        "end_ids(self.model) | {self.tokenizer",
        "{self.tokenizer",
    ),
    "sin paradas en la conversación": (
        "o09 o18",
        "until(shown, settings.stop)",
        "until(shown, ())",
    ),
    "sin máscara": (
        "o11",
        "        if schema is not None:\n",
        "        if schema is not None and not text:\n",
    ),
    "la máscara no sabe el máximo": (
        "o11",
        "limit = dict(max_new_tokens=settings.max_new_tokens)",
        "limit = dict(max_new_tokens=60)",
    ),
    "máscara sin azar": (
        "o11",
        "schema, sampler=pick, **limit",
        "schema, **limit",
    ),
    "el texto entero, con sus marcas": (
        "o13",
        '    empty = [m | {"content": hole} for m, hole in zip(messages, holes)]\n',
        "    empty = messages\n",
    ),
    "borra las marcas del mensaje": (
        "o13",
        "lambda m: holes[m[0]], part)",
        'lambda m: holes[m[0]].replace("<|im_end|>", ""), part)',
    ),
    "adelanta un forward": (
        "o14",
        "        yield int(token)\n",
        "        forward(model, token[:, None], cache)\n"
        "        yield int(token)\n"
        "        cache.crop(-1)\n",
    ),
    "sin finally": (
        "o18",
        "        finally:  # también si se cierra o se pulsa ■\n",
        "        except ZeroDivisionError:\n            pass\n        else:\n",
    ),
    "lo interrumpido se olvida": (
        "o15",
        "            steps.close()\n",
        "            steps.close()\n"
        '            if stats.reason == "interrumpido":\n'
        "                self.messages = messages[:-1]\n",
    ),
    "la caché, a medias": (
        "o16",
        "            layer.crop(before - layer.get_seq_length())\n",
        "            pass\n",
    ),
    "la pregunta se apunta antes": (
        "o17",
        "        ids = template_ids(self.tokenizer, messages)\n",
        "        ids = template_ids(self.tokenizer, messages)\n"
        "        self.messages = messages\n",
    ),
    "una pregunta vacía vale": (
        "o17",
        "        if not text.strip():\n",
        "        if text is None:\n",
    ),
    "cuenta el prompt entero": (
        "o18",
        "note(stats, fresh.shape[1],",
        "note(stats, ids.shape[1],",
    ),
    "sin lo reutilizado": (
        "o18",
        "    stats.reused_tokens = cache.get_seq_length()\n",
        "",
    ),
    "el motivo, siempre fin": (
        "o18",
        'stats.reason or "parada"',
        'stats.reason or "fin"',
    ),
    # lo que se colaba
    "T = 0 en fp16": (
        "b07",
        "logits.argmax(-1)  # [B]",
        "logits.half().argmax(-1)  # [B]",
    ),
    "la semilla 0 no es semilla": (
        "b09 o12",
        "    if settings.seed is not None:\n",
        "    if settings.seed:\n",
    ),
    "ningún fin son los del modelo": (
        "b15",
        "ends = end_ids(model) if ends is None else ends",
        "ends = ends or end_ids(model)",
    ),
    "siempre los fines del modelo": (
        "b15",
        "ends = end_ids(model) if ends is None else ends",
        "ends = end_ids(model) | (ends or set())",
    ),
    "una plantilla suya": (
        "b18",
        "    envelope = tokenizer.apply_chat_template(empty, **options)\n",
        "    turn = '<|im_start|>{role}\\n{content}<|im_end|>\\n'.format\n"
        "    envelope = ''.join(turn(**m) for m in empty)\n"
        "    envelope += '<|im_start|>assistant\\n'\n",
    ),
    "sin los especiales": (
        "p08",
        DECODED,
        DECODED.replace("])", "], skip_special_tokens=True)"),
    ),
    "un NaN en top_p vale": (
        "o01",
        "s.top_p is None or 0 < s.top_p <= 1",
        "s.top_p is None or not (s.top_p <= 0 or s.top_p > 1)",
    ),
    "un NaN en min_p vale": (
        "o01",
        "s.min_p is None or 0 <= s.min_p <= 1",
        "s.min_p is None or not (s.min_p < 0 or s.min_p > 1)",
    ),
    "sin mensaje de sistema": (
        "o05",
        '[{"role": "system", "content": system}][: bool(system)]',
        "[]",
    ),
    "el sistema, como usuario": (
        "o05",
        '[{"role": "system", "content": system}]',
        '[{"role": "user", "content": system}]',
    ),
    "olvida el sistema al preguntar": (
        "o05",
        "        ids = template_ids(self.tokenizer, messages)\n",
        "        talk = [m for m in messages if m['role'] != 'system']\n"
        "        ids = template_ids(self.tokenizer, talk)\n",
    ),
    "solo los últimos mensajes": (
        "o05",
        "        ids = template_ids(self.tokenizer, messages)\n",
        "        ids = template_ids(self.tokenizer, messages[-4:])\n",
    ),
    "solo la última pregunta": (
        "o05 o06 o07",
        "        ids = template_ids(self.tokenizer, messages)\n",
        "        ids = template_ids(self.tokenizer, messages[-1:])\n",
    ),
    "recorta la pregunta": (
        "o05",
        '{"role": "user", "content": text}]',
        '{"role": "user", "content": text.strip()}]',
    ),
    "una respuesta vacía no se apunta": (
        "o08",
        "            steps.close()\n",
        "            steps.close()\n"
        '            if not answer["content"]:\n'
        "                self.messages = messages\n",
    ),
    "JSON solo en la primera pregunta": (
        "o11",
        "        if schema is not None:\n",
        "        if schema is not None and len(messages) == 1:\n",
    ),
    "sin los de Settings()": (
        "o12",
        "        settings = settings or Settings()\n",
        "",
    ),
    "la conversación, sin azar": (
        "o12",
        "        pick = picker(self.model, settings)\n",
        "        pick = picker(self.model, settings)\n"
        "        if schema is None:\n"
        "            pick = lambda logits, ids: logits.argmax(-1)  # noqa: E731\n",
    ),
    "de los ajustes, la temperatura": (
        "o12",
        "picker(self.model, settings)\n",
        "picker(self.model, Settings(settings.temperature))\n",
    ),
    "los ajustes de la primera pregunta": (
        "o12",
        "        settings = settings or Settings()\n",
        "        settings = settings or Settings()\n"
        "        self.first = settings = getattr(self, 'first', settings)\n",
    ),
    "a partir de dos mensajes, con sus marcas": (
        "o13",
        '    empty = [m | {"content": hole} for m, hole in zip(messages, holes)]\n',
        '    empty = [m | {"content": hole} for m, hole in zip(messages, holes)]\n'
        "    empty = empty if len(messages) == 1 else messages\n",
    ),
    "solo desconfía de quien pregunta": (
        "o13",
        '    empty = [m | {"content": hole} for m, hole in zip(messages, holes)]\n',
        "    empty = [\n"
        '        m | {"content": hole} if m["role"] == "user" else m\n'
        "        for m, hole in zip(messages, holes)\n"
        "    ]\n",
    ),
    "la anterior sigue abierta": (
        "o15",
        "            self.open.close()  # la anterior, si quedó a medias\n",
        "            pass\n",
    ),
    "se calla los errores": (
        "o16",
        "        finally:  # también si se cierra o se pulsa ■\n",
        "        except Exception:\n            return\n        finally:\n",
    ),
    "se calla el esquema imposible": (
        "o17",
        "            pick = json_mask(self.tokenizer, schema, sampler=pick, **limit)\n",
        "            try:\n"
        "                pick = json_mask(\n"
        "                    self.tokenizer, schema, sampler=pick, **limit\n"
        "                )\n"
        "            except ValueError:\n                pass\n",
    ),
    "apunta antes de leer el esquema": (
        "o17",
        "        if schema is not None:\n",
        "        if schema is not None:\n            self.messages = messages\n",
    ),
    "el primero, a cada paso": (
        "o18",
        "stats.first_seconds or seconds",
        "seconds",
    ),
    "el fin en el último sitio es un máximo": (
        "o18",
        '"fin" if ended else "" if left else "máximo"',
        '"máximo" if not left else "fin" if ended else ""',
    ),
    "con paradas, siempre parada": (
        "o18",
        '            stats.reason = stats.reason or "parada"\n',
        "            if settings.stop or not stats.reason:\n"
        '                stats.reason = "parada"\n',
    ),
}
