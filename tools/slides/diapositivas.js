// Encoge la letra de la diapositiva que no quepa, y agranda su figura si sobra.
// La letra, entre 22 y 36 px: la mayor con la que cabe. El código, a 0,74.
const ALTO = 704, MAYOR = 36, COMODA = 26, MENOR = 22;
function ajustar(s) {
  if (!s || s.querySelector(":scope > section")) return;
  const pliegues = [...s.querySelectorAll("details")];
  pliegues.forEach((d) => { d.open = true; }); // que quepan también abiertos
  const fotos = [...s.querySelectorAll(".jp-RenderedImage img")];
  fotos.forEach((i) => { i.style.height = "auto"; i.style.width = "400px"; });
  let letra = fotos.length ? COMODA : MAYOR;
  const ancho = () => Math.max(0, ...[...s.querySelectorAll("pre")].map(
    (p) => p.scrollWidth - p.clientWidth));
  const poner = () => s.style.setProperty("--letra", letra + "px");
  poner();
  while ((s.scrollHeight > ALTO || ancho() > 1) && letra > MENOR) {
    letra -= 1;
    poner();
  }
  if (fotos.length === 1) { // la figura, hasta llenar el hueco
    const foto = fotos[0], texto = s.scrollHeight - foto.offsetHeight;
    const ancho = 1280 - 96, alto = ALTO - texto - 6;
    const k = Math.min(ancho / foto.naturalWidth, alto / foto.naturalHeight);
    foto.style.width = Math.floor(foto.naturalWidth * k) + "px";
  }
  pliegues.forEach((d) => { d.open = false; });
}
function todas() {
  document.querySelectorAll(".reveal .slides section").forEach(ajustar);
}
Reveal.initialize({
  width: 1280, height: 720, margin: 0, center: false, hash: true,
  slideNumber: "c/t", controls: false, transition: "none", controlsTutorial: false,
  navigationMode: "linear", pdfMaxPagesPerSlide: 1, pdfSeparateFragments: false,
  plugins: [RevealNotes],
});
Reveal.on("ready", (e) => ajustar(e.currentSlide));
Reveal.on("slidechanged", (e) => ajustar(e.currentSlide));
Reveal.on("pdf-ready", todas);
window.addEventListener("load", () => ajustar(Reveal.getCurrentSlide()));
