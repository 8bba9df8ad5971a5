"""The headings of exported documents in each language, and the marks of text from right to left."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from domain.replies.questions import language

RIGHT_TO_LEFT_MARK: Final = "\u200f"
_FIRST_STRONG_ISOLATE: Final = "\u2068"
_POP_ISOLATE: Final = "\u2069"


@dataclass(frozen=True, slots=True)
class Titles:
    """The words of a document in one language. `colon` is what stands between a name and a value.

    In a language from right to left, what is Latin by nature (a path, a name, a time) is isolated:
    it keeps its own direction, and the line keeps the language's direction.
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
    ("References", "Références", "Referencias", "المراجع"),
    ("Related topics", "Sujets liés", "Temas relacionados", "مواضيع ذات صلة"),
    ("Feasibility", "Faisabilité", "Viabilidad", "قابلية التنفيذ"),
    ("Overview", "Vue d’ensemble", "Resumen", "نظرة عامة"),
    ("Steps", "Étapes", "Pasos", "الخطوات"),
    ("Dependencies", "Dépendances", "Dependencias", "الاعتماديات"),
    ("Risks", "Risques", "Riesgos", "المخاطر"),
    ("Alternatives", "Alternatives", "Alternativas", "البدائل"),
    ("Build prompt", "Consigne de build", "Orden de compilación", "أمر البناء"),
    ("Improved prompt", "Prompt amélioré", "Prompt mejorado", "الموجّه المحسّن"),
    ("Files", "Fichiers", "Archivos", "الملفات"),
    ("New files", "Nouveaux fichiers", "Archivos nuevos", "ملفات جديدة"),
    ("Effort", "Effort", "Esfuerzo", "الجهد"),
    ("Issue", "Problème", "Problema", "المشكلة"),
    ("Root cause", "Cause", "Causa", "السبب الجذري"),
    ("Solution", "Solution", "Solución", "الحل"),
    ("Prevention", "Prévention", "Prevención", "الوقاية"),
    ("Severity", "Gravité", "Gravedad", "الخطورة"),
    ("Category", "Catégorie", "Categoría", "الفئة"),
    ("Changes", "Modifications", "Cambios", "التغييرات"),
    ("Testing", "Tests", "Pruebas", "الاختبار"),
    ("Findings", "Constats", "Hallazgos", "النتائج"),
    ("Metrics", "Mesures", "Métricas", "المقاييس"),
    ("Name", "Nom", "Nombre", "الاسم"),
    ("Value", "Valeur", "Valor", "القيمة"),
    ("Visualizations", "Visualisations", "Visualizaciones", "الرسوم البيانية"),
    ("Impact", "Impact", "Impacto", "الأثر"),
    ("Recommendations", "Recommandations", "Recomendaciones", "التوصيات"),
    ("Type", "Type", "Tipo", "النوع"),
    ("Label", "Libellé", "Etiqueta", "التسمية"),
    ("User", "Utilisateur", "Usuario", "المستخدم"),
    ("Assistant", "Assistant", "Asistente", "المساعد"),
    ("Service", "Service", "Servicio", "الخدمة"),
    ("Material", "Document", "Material", "مادة"),
    ("simple", "simple", "sencilla", "بسيطة"),
    ("moderate", "modérée", "moderada", "متوسطة"),
    ("complex", "complexe", "compleja", "معقدة"),
    ("low", "faible", "bajo", "منخفض"),
    ("medium", "moyen", "medio", "متوسط"),
    ("high", "élevé", "alto", "مرتفع"),
    ("critical", "critique", "crítico", "حرج"),
    ("modify", "modifier", "modificar", "تعديل"),
    ("create", "créer", "crear", "إنشاء"),
    ("delete", "supprimer", "eliminar", "حذف"),
)
"""Each word in English, French, Spanish and Arabic."""

_ENGLISH, _FRENCH, _SPANISH, _ARABIC = zip(*_WORDS, strict=True)

_TITLES: Final[Mapping[str, Titles]] = {
    "en": Titles({}),
    "fr": Titles(dict(zip(_ENGLISH, _FRENCH, strict=True)), colon=" :"),
    "es": Titles(dict(zip(_ENGLISH, _SPANISH, strict=True))),
    "ar": Titles(dict(zip(_ENGLISH, _ARABIC, strict=True)), is_right_to_left=True),
}


def titles_of(locale: str) -> Titles:
    """The words of the locale's language; in English for a language without words."""
    return _TITLES.get(language(locale), _TITLES["en"])
