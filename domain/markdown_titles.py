"""The headings of exported documents in each language, and the marks of text from right to left."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from domain.questions import language

RIGHT_TO_LEFT_MARK: Final = "\u200f"
_FIRST_STRONG_ISOLATE: Final = "\u2068"
_POP_ISOLATE: Final = "\u2069"


@dataclass(frozen=True, slots=True)
class Titles:
    """The words of a document in one language. `colon` is what stands between a name and a value.

    In a language from right to left, what is Latin by nature (a path, a name, a time) is isolated:
    it keeps its own direction, and the line keeps that of the language.
    """

    words: Mapping[str, str]
    colon: str = ":"
    is_right_to_left: bool = False

    def __getitem__(self, word: str) -> str:
        """The word in the document's language; a word of the model as it is."""
        return self.words.get(word, word)

    def apart(self, text: str) -> str:
        """A text that keeps its own direction."""
        if not text or not self.is_right_to_left:
            return text
        return f"{_FIRST_STRONG_ISOLATE}{text}{_POP_ISOLATE}"

    @property
    def mark(self) -> str:
        """What begins a line that has no other letter of the language."""
        return RIGHT_TO_LEFT_MARK if self.is_right_to_left else ""


_WORDS: Final = (
    *("References", "Related topics", "Feasibility", "Overview", "Steps", "Dependencies", "Risks"),
    *(
        "Alternatives",
        "Build prompt",
        "Files",
        "New files",
        "Effort",
        "Issue",
        "Root cause",
        "Solution",
    ),
    *("Prevention", "Severity", "Category", "Changes", "Testing", "Findings", "Metrics", "Name"),
    *("Value", "Visualizations", "Impact", "Recommendations", "Type", "Label"),
    *("simple", "moderate", "complex", "low", "medium", "high", "critical"),
    *("modify", "create", "delete"),
)
_FRENCH: Final = (
    *("Références", "Sujets liés", "Faisabilité", "Vue d’ensemble", "Étapes", "Dépendances"),
    *(
        "Risques",
        "Alternatives",
        "Consigne de build",
        "Fichiers",
        "Nouveaux fichiers",
        "Effort",
        "Problème",
        "Cause",
    ),
    *("Solution", "Prévention", "Gravité", "Catégorie", "Modifications", "Tests", "Constats"),
    *("Mesures", "Nom", "Valeur", "Visualisations", "Impact", "Recommandations", "Type"),
    *("Libellé", "simple", "modérée", "complexe", "faible", "moyen", "élevé", "critique"),
    *("modifier", "créer", "supprimer"),
)
_SPANISH: Final = (
    *("Referencias", "Temas relacionados", "Viabilidad", "Resumen", "Pasos", "Dependencias"),
    *(
        "Riesgos",
        "Alternativas",
        "Orden de compilación",
        "Archivos",
        "Archivos nuevos",
        "Esfuerzo",
        "Problema",
    ),
    *("Causa", "Solución", "Prevención", "Gravedad", "Categoría", "Cambios", "Pruebas"),
    *("Hallazgos", "Métricas", "Nombre", "Valor", "Visualizaciones", "Impacto"),
    *("Recomendaciones", "Tipo", "Etiqueta", "sencilla", "moderada", "compleja", "bajo", "medio"),
    *("alto", "crítico", "modificar", "crear", "eliminar"),
)
_ARABIC: Final = (
    *("المراجع", "مواضيع ذات صلة", "قابلية التنفيذ", "نظرة عامة", "الخطوات", "الاعتماديات"),
    *(
        "المخاطر",
        "البدائل",
        "أمر البناء",
        "الملفات",
        "ملفات جديدة",
        "الجهد",
        "المشكلة",
        "السبب الجذري",
        "الحل",
    ),
    *("الوقاية", "الخطورة", "الفئة", "التغييرات", "الاختبار", "النتائج", "المقاييس", "الاسم"),
    *("القيمة", "الرسوم البيانية", "الأثر", "التوصيات", "النوع", "التسمية"),
    *("بسيطة", "متوسطة", "معقدة", "منخفض", "متوسط", "مرتفع", "حرج"),
    *("تعديل", "إنشاء", "حذف"),
)

_TITLES: Final[Mapping[str, Titles]] = {
    "en": Titles({}),
    "fr": Titles(dict(zip(_WORDS, _FRENCH, strict=True)), colon=" :"),
    "es": Titles(dict(zip(_WORDS, _SPANISH, strict=True))),
    "ar": Titles(dict(zip(_WORDS, _ARABIC, strict=True)), is_right_to_left=True),
}


def titles_of(locale: str) -> Titles:
    """The words of the locale's language; in English for a language without words."""
    return _TITLES.get(language(locale), _TITLES["en"])
