"""The prepared replies of the offline model, in each intent and each language.

The shapes are written once, and the texts once for each language. So a reply differs between
languages in its prose alone: keys, paths and numbers are the same, and digits are Western.
"""

import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, cast, get_args

Json: TypeAlias = Any
PlannerIntent = Literal["question", "feature", "fix", "analysis", "general"]
Intent = Literal[PlannerIntent, "improvement"]
Language = Literal["en", "fr", "es", "ar"]
Texts: TypeAlias = Mapping[str, str]

LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
INTENTS: Final[tuple[PlannerIntent, ...]] = get_args(PlannerIntent)
"""The intents among which the message decides."""


MARKS: Final[Mapping[Language, str]] = {
    "en": "(offline model)",
    "fr": "(modèle hors ligne)",
    "es": "(modelo sin conexión)",
    "ar": "(نموذج بلا اتصال)",
}
"""The sentence of each language that says that no model wrote the reply."""

_SUBJECT_LENGTH: Final = 60

_WORDS: Final = re.compile(
    r"""
    (?P<feature> \b(?: add | build | implement | create | develop
        | ajout\w* | constru\w* | crée[rz]? | développe\w* | implément\w*
        | añad\w* | agreg\w* | crear? | implementa\w* | desarroll\w* )\b
        | أضف | اضف | إضافة | أنشئ | إنشاء | \bابن\b | نفّذ | نفذ | طوّر )
    | (?P<fix> \b(?: bugs? | errors? | fix\w* | broken | crash\w*
        | corrig\w* | répar\w* | erreurs? | cassée? | bogues?
        | arregl\w* | corrij\w* | errore?s? | fall[aoó]s? | roto )\b
        | أصلح | إصلاح | خطأ | عطل | معطّل | معطل )
    | (?P<analysis> \b(?: review | analy[sz]e | analysis | audit
        | analyse[rz]? | examine[rz]? | revue | auditer?
        | analiza\w* | análisis | revis\w* | auditor\w* | audita\w* )\b
        | راجع | مراجعة | حلّل | حلل | تحليل | دقّق | تدقيق )
    | (?P<question> \b(?: how | what | why | where | which | when
        | comment | pourquoi | quel(?:le)?s? | qu['’]est-ce | où
        | cómo | qué | por\squé | cuál(?:es)? | dónde )\b
        | كيف | لماذا | ماذا | (?<!\w)ما(?!\w) | أين | [?؟]\s*$ )
    """,
    re.IGNORECASE | re.VERBOSE,
)


def intent_of(message: str) -> Intent:
    """The intent of `message`, by its first known word, or by its question mark."""
    found = _WORDS.search(message)
    return cast(Intent, found.lastgroup) if found else "general"


def subject_of(message: str) -> str:
    """`message` on one line, at most 60 characters long."""
    return textwrap.shorten(message, _SUBJECT_LENGTH, placeholder="…") or "…"


def reply(intent: Intent, language: Language, subject: str) -> Json:
    """The JSON object `{intent, response}` about `subject`."""
    mark = {"mark": MARKS[language], "subject": subject}
    texts = {key: text.format_map(mark) for key, text in _TEXTS[language].items()}
    return {"intent": intent, "response": _SHAPES[intent](texts)}


def _question(texts: Texts) -> Json:
    return {
        "answer": texts["answer"],
        "references": [{"file": "README.md", "line": 1, "snippet": texts["snippet"]}],
        "relatedTopics": [texts["structure"], texts["tests"]],
    }


def _feature(texts: Texts) -> Json:
    return {
        "summary": texts["plan"],
        "feasibility": "moderate",
        "plan": {
            "overview": texts["overview"],
            "steps": [
                _step(texts, 1, "data", "src/models.py", "low"),
                _step(texts, 2, "behaviour", "src/routes.py", "medium"),
                _step(texts, 3, "proof", "tests/test_routes.py", "low"),
            ],
            "dependencies": [{"name": "pydantic", "version": "2", "reason": texts["dependency"]}],
            "risks": [texts["risk"]],
            "alternatives": [texts["alternative"]],
        },
        "buildPrompt": texts["build"],
    }


def _step(texts: Texts, order: int, key: str, file: str, effort: str) -> Json:
    return {
        "order": order,
        "title": texts[key],
        "description": texts[f"{key}_how"],
        "files": [file],
        "estimatedEffort": effort,
        "newFiles": [file],
    }


def _fix(texts: Texts) -> Json:
    change = {"file": "src/routes.py", "changeType": "modify", "description": texts["change"]}
    return {
        "issue": {"description": texts["issue"], "severity": "medium", "category": texts["logic"]},
        "rootCause": texts["cause"],
        "solution": {
            "approach": texts["approach"],
            "changes": [change],
            "testingStrategy": texts["testing"],
        },
        "preventionTips": [texts["prevention"]],
        "buildPrompt": texts["build"],
    }


def _analysis(texts: Texts) -> Json:
    return {
        "overview": texts["analysis"],
        "findings": [
            {
                "category": texts["structure"],
                "title": texts["finding"],
                "description": texts["finding_why"],
                "impact": texts["impact"],
                "recommendations": [texts["recommendation"]],
            },
            {
                "category": texts["tests"],
                "title": texts["untested"],
                "description": texts["untested_why"],
            },
        ],
        "metrics": [{"name": texts["files_read"], "value": 0}],
        "visualizations": [
            {
                "type": "chart",
                "title": texts["chart"],
                "labels": [texts["structure"], texts["tests"]],
                "values": [1, 1],
            }
        ],
    }


def _general(texts: Texts) -> Json:
    return {"markdown": texts["general"]}


def _improvement(texts: Texts) -> Json:
    return {
        "analysis": texts["improvement"],
        "improvedPrompt": texts["improved_prompt"],
        "changes": [texts["clearer_task"], texts["clearer_form"]],
    }


_SHAPES: Final[Mapping[Intent, Callable[[Texts], Json]]] = {
    "question": _question,
    "feature": _feature,
    "fix": _fix,
    "analysis": _analysis,
    "general": _general,
    "improvement": _improvement,
}

_ENGLISH: Final[Texts] = {
    "answer": (
        "{mark} You asked: “{subject}”. No model has read your project, so this answer was "
        "prepared beforehand. The place to look first is usually the module that owns the data in "
        "question: read its types, then follow who calls it, then read the test that names the "
        "behaviour. Connect a model and ask again for an answer about your own code."
    ),
    "snippet": "# Project",
    "structure": "Structure",
    "tests": "Tests",
    "plan": "{mark} A plan for “{subject}”, prepared beforehand.",
    "overview": (
        "Start with the data, then the behaviour, then the test that holds it. "
        "Each step can be merged by itself."
    ),
    "data": "Model the data",
    "data_how": "Add the new fields with their limits, and a migration that can be repeated.",
    "behaviour": "Add the behaviour",
    "behaviour_how": "One route that checks its input, does the work and answers in a known shape.",
    "proof": "Prove it",
    "proof_how": "A test for the usual path, one for each limit, one for a second click.",
    "dependency": "Checks the input where it enters.",
    "risk": "Old records lack the new fields: give them a default.",
    "alternative": "Begin behind a switch, for a few users.",
    "build": "Carry out the plan for “{subject}” step by step, with tests.",
    "issue": "{mark} You reported: “{subject}”. Nobody has reproduced it here.",
    "logic": "logic",
    "cause": (
        "Most often a value is used before it was checked, so the failure shows up far from where "
        "it began."
    ),
    "approach": "Write a test that fails in the same way, then mend the place that lets it in.",
    "change": "Check the value on entry and answer with a clear error.",
    "testing": "The new test fails before the change and passes after it; the others stay green.",
    "prevention": "Check input once, at the border, and trust it inside.",
    "analysis": (
        "{mark} A review of “{subject}”, prepared beforehand: no file was read. It lists what such "
        "a review finds most often."
    ),
    "finding": "One module does too much",
    "finding_why": "Reading, deciding and writing stand side by side and change for other reasons.",
    "impact": "Small changes touch many files.",
    "recommendation": "Move the decisions into pure functions.",
    "untested": "Failures are not tested",
    "untested_why": "The usual path is covered; time limits and repeated calls are not.",
    "files_read": "Files read",
    "chart": "Findings by category",
    "general": (
        "{mark} Your message was: “{subject}”.\n\n## What you can ask\n\n"
        "- **A question** about how the project works\n- **A feature** to plan, step by step\n"
        "- **A fix** for something that is broken\n- **A review** of a part of the code\n\n"
        "This reply was prepared beforehand. Connect a model to talk about your own code."
    ),
    "improvement": (
        "{mark} You wrote: “{subject}”. A prompt gets better when it says who answers, what is "
        "given, what the answer looks like, and what to avoid. The prompt beside this text says "
        "all four. Two things only you know: who reads the answer, and how long may it be?"
    ),
    "improved_prompt": (
        "You are an experienced assistant.\n\nTask: {subject}\n\nGiven: {{{{input}}}}\n\n"
        "Answer in at most five sentences. Say what you assume. Invent no facts."
    ),
    "clearer_task": "The task and the input stand apart.",
    "clearer_form": "The form and the length of the answer are given.",
}

_FRENCH: Final[Texts] = {
    "answer": (
        "{mark} Vous avez demandé : « {subject} ». Aucun modèle n’a lu votre projet, cette réponse "
        "est donc préparée d’avance. Regardez d’abord le module qui possède les données en "
        "question : lisez ses types, suivez ses appelants, puis le test qui nomme le comportement. "
        "Connectez un modèle et reposez la question pour une réponse sur votre propre code."
    ),
    "snippet": "# Project",
    "structure": "Structure",
    "tests": "Tests",
    "plan": "{mark} Un plan pour « {subject} », préparé d’avance.",
    "overview": (
        "Commencez par les données, puis le comportement, puis le test qui le garantit. "
        "Chaque étape peut être fusionnée seule."
    ),
    "data": "Modéliser les données",
    "data_how": "Ajouter les champs avec leurs limites, et une migration que l’on peut répéter.",
    "behaviour": "Ajouter le comportement",
    "behaviour_how": "Une route qui vérifie l’entrée, fait le travail et répond sous forme connue.",
    "proof": "Le prouver",
    "proof_how": "Un test pour le cas courant, un par limite, un pour le second clic.",
    "dependency": "Vérifie les données dès leur entrée.",
    "risk": "Les anciens enregistrements n’ont pas ces champs : donnez-leur une valeur.",
    "alternative": "Commencer derrière un interrupteur, pour quelques personnes.",
    "build": "Réaliser le plan pour « {subject} » étape par étape, avec des tests.",
    "issue": "{mark} Vous avez signalé : « {subject} ». Personne ne l’a reproduit ici.",
    "logic": "logique",
    "cause": (
        "Le plus souvent, une valeur est utilisée avant d’être vérifiée, et la panne se montre "
        "loin de son origine."
    ),
    "approach": "Écrire un test qui échoue de la même façon, puis corriger l’endroit fautif.",
    "change": "Vérifier la valeur à l’entrée et répondre par une erreur claire.",
    "testing": "Le nouveau test échoue avant et passe après ; les autres restent verts.",
    "prevention": "Vérifier une seule fois, à la frontière, puis faire confiance.",
    "analysis": (
        "{mark} Une revue de « {subject} », préparée d’avance : aucun fichier n’a été lu. Elle dit "
        "ce qu’une telle revue trouve le plus souvent."
    ),
    "finding": "Un module en fait trop",
    "finding_why": "Lire, décider et écrire s’y côtoient et changent pour d’autres raisons.",
    "impact": "De petits changements touchent beaucoup de fichiers.",
    "recommendation": "Déplacer les décisions dans des fonctions pures.",
    "untested": "Les pannes ne sont pas testées",
    "untested_why": "Le cas courant est couvert ; les délais et les appels répétés ne le sont pas.",
    "files_read": "Fichiers lus",
    "chart": "Constats par catégorie",
    "general": (
        "{mark} Votre message : « {subject} ».\n\n## Ce que vous pouvez demander\n\n"
        "- **Une question** sur le fonctionnement du projet\n"
        "- **Une fonctionnalité** à planifier, étape par étape\n"
        "- **Une correction** de ce qui ne marche pas\n- **Une revue** d’une partie du code\n\n"
        "Cette réponse est préparée d’avance. Connectez un modèle pour parler de votre code."
    ),
    "improvement": (
        "{mark} Vous avez écrit : « {subject} ». Un prompt s’améliore quand il dit qui répond, ce "
        "qui est donné, à quoi ressemble la réponse et ce qu’il faut éviter. Le prompt ci-contre "
        "dit les quatre. Vous seul savez : qui lit la réponse, et quelle longueur peut-elle avoir ?"
    ),
    "improved_prompt": (
        "Vous êtes un assistant expérimenté.\n\nTâche : {subject}\n\nDonné : {{{{input}}}}\n\n"
        "Répondez en cinq phrases au plus. Dites vos hypothèses. N’inventez aucun fait."
    ),
    "clearer_task": "La tâche et les données sont séparées.",
    "clearer_form": "La forme et la longueur de la réponse sont données.",
}

_SPANISH: Final[Texts] = {
    "answer": (
        "{mark} Preguntaste: «{subject}». Ningún modelo ha leído tu proyecto, así que esta "
        "respuesta estaba preparada. Mira primero el módulo que posee los datos en cuestión: lee "
        "sus tipos, sigue a quienes lo llaman y lee después la prueba que nombra ese "
        "comportamiento. Conecta un modelo y repite la pregunta para hablar de tu propio código."
    ),
    "snippet": "# Project",
    "structure": "Estructura",
    "tests": "Pruebas",
    "plan": "{mark} Un plan para «{subject}», preparado de antemano.",
    "overview": (
        "Empieza por los datos, sigue con el comportamiento y termina con la prueba que lo "
        "sostiene. Cada paso se puede integrar por separado."
    ),
    "data": "Modelar los datos",
    "data_how": "Añadir los campos con sus límites y una migración que se pueda repetir.",
    "behaviour": "Añadir el comportamiento",
    "behaviour_how": "Una ruta que comprueba la entrada, trabaja y responde en forma conocida.",
    "proof": "Demostrarlo",
    "proof_how": "Una prueba del caso normal, una por límite y una del segundo clic.",
    "dependency": "Comprueba los datos donde entran.",
    "risk": "Los registros antiguos no tienen esos campos: dales un valor.",
    "alternative": "Empezar tras un interruptor, para pocas personas.",
    "build": "Realizar el plan para «{subject}» paso a paso, con pruebas.",
    "issue": "{mark} Informaste: «{subject}». Nadie lo ha reproducido aquí.",
    "logic": "lógica",
    "cause": (
        "Casi siempre un valor se usa antes de comprobarlo, y el fallo aparece lejos de donde "
        "empezó."
    ),
    "approach": "Escribir una prueba que falle igual y reparar después el lugar que lo permite.",
    "change": "Comprobar el valor a la entrada y responder con un error claro.",
    "testing": "La prueba nueva falla antes del cambio y pasa después; las demás siguen verdes.",
    "prevention": "Comprobar una sola vez, en la frontera, y confiar dentro.",
    "analysis": (
        "{mark} Una revisión de «{subject}», preparada de antemano: no se leyó ningún archivo. "
        "Dice lo que una revisión así encuentra más a menudo."
    ),
    "finding": "Un módulo hace demasiado",
    "finding_why": "Leer, decidir y escribir están juntos y cambian por motivos distintos.",
    "impact": "Los cambios pequeños tocan muchos archivos.",
    "recommendation": "Llevar las decisiones a funciones puras.",
    "untested": "Los fallos no se prueban",
    "untested_why": "El caso normal está cubierto; los plazos y las llamadas repetidas, no.",
    "files_read": "Archivos leídos",
    "chart": "Hallazgos por categoría",
    "general": (
        "{mark} Tu mensaje: «{subject}».\n\n## Lo que puedes pedir\n\n"
        "- **Una pregunta** sobre cómo funciona el proyecto\n"
        "- **Una función** que planear, paso a paso\n"
        "- **Un arreglo** de algo que no funciona\n- **Una revisión** de una parte del código\n\n"
        "Esta respuesta estaba preparada. Conecta un modelo para hablar de tu propio código."
    ),
    "improvement": (
        "{mark} Escribiste: «{subject}». Un prompt mejora cuando dice quién responde, qué se da, "
        "qué forma tiene la respuesta y qué hay que evitar. El prompt de al lado dice las cuatro "
        "cosas. Solo tú sabes: ¿quién lee la respuesta y qué longitud puede tener?"
    ),
    "improved_prompt": (
        "Eres un asistente con experiencia.\n\nTarea: {subject}\n\nDatos: {{{{input}}}}\n\n"
        "Responde en cinco frases como máximo. Di lo que supones. No inventes hechos."
    ),
    "clearer_task": "La tarea y los datos están separados.",
    "clearer_form": "Se indican la forma y la longitud de la respuesta.",
}

_ARABIC: Final[Texts] = {
    "answer": (
        "{mark} سألت: «{subject}». لم يقرأ أي نموذج مشروعك، ولذلك فهذه إجابة معدّة مسبقًا. "
        "ابدأ عادةً بالوحدة التي تملك البيانات المعنية: اقرأ أنواعها، ثم تتبّع من يستدعيها، ثم "
        "اقرأ الاختبار الذي يسمّي هذا السلوك. صِل نموذجًا وأعد السؤال لتحصل على إجابة عن شيفرتك "
        "أنت."
    ),
    "snippet": "# Project",
    "structure": "البنية",
    "tests": "الاختبارات",
    "plan": "{mark} خطة معدّة مسبقًا من أجل «{subject}».",
    "overview": (
        "ابدأ بالبيانات، ثم السلوك، ثم الاختبار الذي يثبّته. ويمكن دمج كل خطوة وحدها دون انتظار "
        "غيرها."
    ),
    "data": "نمذجة البيانات",
    "data_how": "أضف الحقول الجديدة مع حدودها، وترحيلًا يمكن تكراره بأمان.",
    "behaviour": "إضافة السلوك",
    "behaviour_how": "مسار واحد يتحقق من المدخلات، وينجز العمل، ويجيب بصيغة معروفة.",
    "proof": "إثبات العمل",
    "proof_how": "اختبار للحالة المعتادة، وآخر لكل حد، وآخر للنقرة الثانية.",
    "dependency": "يتحقق من البيانات عند دخولها.",
    "risk": "السجلات القديمة تخلو من الحقول الجديدة: أعطها قيمة افتراضية.",
    "alternative": "البدء خلف مفتاح تشغيل لعدد قليل من المستخدمين.",
    "build": "نفّذ الخطة الخاصة بـ «{subject}» خطوة خطوة مع الاختبارات.",
    "issue": "{mark} أبلغت عن: «{subject}». ولم يُعِد أحد إنتاج المشكلة هنا.",
    "logic": "منطق",
    "cause": (
        "في أغلب الأحيان تُستعمل قيمة قبل التحقق منها، فيظهر الخلل بعيدًا عن المكان الذي بدأ فيه."
    ),
    "approach": "اكتب اختبارًا يفشل بالطريقة نفسها، ثم أصلح الموضع الذي يسمح بذلك.",
    "change": "تحقق من القيمة عند الدخول وأجب بخطأ واضح.",
    "testing": "يفشل الاختبار الجديد قبل التغيير وينجح بعده، وتبقى سائر الاختبارات ناجحة.",
    "prevention": "تحقق مرة واحدة عند الحدود، ثم ثق بالقيمة في الداخل.",
    "analysis": (
        "{mark} مراجعة معدّة مسبقًا عن «{subject}»: لم يُقرأ أي ملف. وهي تذكر أكثر ما تجده مراجعة "
        "من هذا النوع."
    ),
    "finding": "وحدة واحدة تفعل الكثير",
    "finding_why": "القراءة والقرار والكتابة متجاورة فيها، وتتغير لأسباب مختلفة.",
    "impact": "التغييرات الصغيرة تمسّ ملفات كثيرة.",
    "recommendation": "انقل القرارات إلى دوال نقية.",
    "untested": "حالات الفشل بلا اختبار",
    "untested_why": "الحالة المعتادة مغطاة، أما المهل والاستدعاءات المتكررة فليست كذلك.",
    "files_read": "الملفات المقروءة",
    "chart": "النتائج حسب الفئة",
    "general": (
        "{mark} رسالتك: «{subject}».\n\n## ما يمكنك طلبه\n\n"
        "- **سؤال** عن طريقة عمل المشروع\n- **ميزة** نخطط لها خطوة خطوة\n"
        "- **إصلاح** لشيء لا يعمل\n- **مراجعة** لجزء من الشيفرة\n\n"
        "هذه الإجابة معدّة مسبقًا، ولم يُقرأ أي ملف من ملفاتك. صِل نموذجًا لنتحدث عن شيفرتك أنت."
    ),
    "improvement": (
        "{mark} كتبت: «{subject}». يتحسّن الموجّه حين يقول من يجيب، وما المعطى، وما شكل الإجابة، وما "
        "الذي يجب تجنّبه. الموجّه المجاور يقول الأربعة كلها. أمران لا يعرفهما غيرك: من يقرأ الإجابة، "
        "وكم يجوز أن يكون طولها؟"
    ),
    "improved_prompt": (
        "أنت مساعد خبير.\n\nالمهمة: {subject}\n\nالمعطى: {{{{input}}}}\n\n"
        "أجب في خمس جمل على الأكثر. اذكر افتراضاتك. لا تخترع أي حقيقة."
    ),
    "clearer_task": "المهمة والمعطيات منفصلة.",
    "clearer_form": "شكل الإجابة وطولها محددان.",
}

_TEXTS: Final[Mapping[Language, Texts]] = {
    "en": _ENGLISH,
    "fr": _FRENCH,
    "es": _SPANISH,
    "ar": _ARABIC,
}
