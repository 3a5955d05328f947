// Reparte cada sección en diapositivas que caben, y elige la letra de cada una:
// la mayor entre 22 y 36 px con la que cabe. El código, a 0,74.
const ALTO = 704, ANCHO = 1280 - 96, MAYOR = 36, COMODA = 26, MENOR = 22;
const grupo = (p) => (p.id.match(/g\d+/) || [""])[0];
const fotos = (s) => [...s.querySelectorAll(".jp-RenderedImage img")];
const letra = (s, px) => s.style.setProperty("--letra", px + "px");
function abrir(s, si) { // los pliegues, que quepan también abiertos
  s.querySelectorAll("details").forEach((d) => { d.open = si; });
}
function figura(i, alto) { // a todo el ancho, o hasta ese alto
  const k = Math.min(ANCHO / i.naturalWidth, alto / i.naturalHeight);
  i.style.cssText = `height:auto;width:${Math.floor(i.naturalWidth * k)}px`;
}
function cabe(s) {
  const largo = [...s.querySelectorAll("pre")].some(
    (p) => p.scrollWidth - p.clientWidth > 1);
  return s.scrollHeight <= ALTO && !largo;
}
function probar(s, trozos, px) { // ¿caben también estos? Si no, los quita
  letra(s, px);
  s.append(...trozos);
  const si = cabe(s);
  if (!si) trozos.forEach((t) => t.remove());
  return si;
}
function repartir(pila) {
  const primera = pila.querySelector(":scope > section"), grupos = [];
  for (const trozo of [...primera.children]) {
    const ultimo = grupos.at(-1), nota = trozo.matches("aside");
    if (!nota && ultimo && grupo(trozo) && grupo(ultimo[0]) === grupo(trozo))
      ultimo.push(trozo);
    else grupos.push([trozo]);
    trozo.remove();
  }
  let s = primera;
  const otra = () => {
    const nueva = primera.cloneNode(false);
    nueva.removeAttribute("id");
    s.after(nueva);
    return (s = nueva);
  };
  for (const trozos of grupos) {
    const vacia = () => !s.querySelector(".jp-Cell");
    if (trozos[0].matches("aside")) { s.append(...trozos); continue; }
    trozos.forEach((t) => fotos(t).forEach((i) => figura(i, ALTO - 44)));
    if (!vacia() && probar(s, trozos, COMODA)) continue;
    if (!vacia()) otra();
    if (probar(s, trozos, MENOR)) continue;
    for (const t of trozos) // ni juntos en una: de uno en uno
      if (!probar(s, [t], MENOR)) { if (!vacia()) otra(); s.append(t); }
  }
}
function ajustar(s) {
  if (!s || s.querySelector(":scope > section")) return;
  abrir(s, true);
  const imagenes = fotos(s);
  imagenes.forEach((i) => { i.style.cssText = "height:auto;width:400px"; });
  let px = imagenes.length ? COMODA : MAYOR;
  letra(s, px);
  while (!cabe(s) && px > MENOR) letra(s, px -= 1);
  if (imagenes.length === 1) // la figura, hasta llenar el hueco
    figura(imagenes[0], ALTO - (s.scrollHeight - imagenes[0].offsetHeight) - 6);
  abrir(s, false);
}
function todas() {
  document.querySelectorAll(".reveal .slides section").forEach(ajustar);
}
window.addEventListener("load", async () => {
  const raiz = document.querySelector(".reveal");
  await document.fonts.ready;
  raiz.classList.add("midiendo"); // todo a la vista, para poder medirlo
  abrir(raiz, true);
  raiz.querySelectorAll(".slides > section").forEach(repartir);
  abrir(raiz, false);
  raiz.classList.remove("midiendo");
  Reveal.on("ready", (e) => ajustar(e.currentSlide));
  Reveal.on("slidechanged", (e) => ajustar(e.currentSlide));
  Reveal.on("pdf-ready", todas);
  Reveal.initialize({
    width: 1280, height: 720, margin: 0, center: false, hash: true,
    slideNumber: "c/t", controls: false, transition: "none",
    controlsTutorial: false, navigationMode: "linear", pdfMaxPagesPerSlide: 1,
    pdfSeparateFragments: false, plugins: [RevealNotes],
  });
});
