/*
 * Runs Python in a library: embed HOW FILE. The functions of this program are on the stack below:
 * main -> c_outer -> c_inner. HOW is
 *   main     Py_Main with the file as argument
 *   string   PyRun_SimpleString with the text of the file
 *   call     PyObject_CallObject of the function `embedded` in __main__, after the text was run
 *   thread   the same in a thread of C, which the interpreter did not create
 *   again    twice, with a new interpreter each time
 * known.py takes the directory of the file from $PYTHONPATH.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>

static char *text;

/* Reads a file and its end. */
static char *read_text(const char *path)
{
	static char buffer[1 << 16];
	FILE *file = fopen(path, "r");

	if (!file)
		return NULL;
	buffer[fread(buffer, 1, sizeof(buffer) - 1, file)] = 0;
	fclose(file);
	return buffer;
}

static int call_embedded(void)
{
	PyObject *module = PyImport_AddModule("__main__");
	PyObject *function = PyObject_GetAttrString(module, "embedded");
	PyObject *result = function ? PyObject_CallObject(function, NULL) : NULL;

	if (!result)
		PyErr_Print();
	Py_XDECREF(result);
	Py_XDECREF(function);
	return result ? 0 : 1;
}

static void *entry(void *argument)
{
	PyGILState_STATE state = PyGILState_Ensure();

	(void)argument;
	call_embedded();
	PyGILState_Release(state);
	return NULL;
}

static void call_in_thread(void)
{
	pthread_t thread;
	PyThreadState *saved = PyEval_SaveThread();

	pthread_create(&thread, NULL, entry, NULL);
	pthread_join(thread, NULL);
	PyEval_RestoreThread(saved);
}

/* The barriers keep the compiler from replacing these frames by those of their callees. */
__attribute__((noinline)) int c_inner(const char *how, const char *path)
{
	int result = 0;

	if (!strcmp(how, "main")) {
		wchar_t program[] = L"embed", *file = Py_DecodeLocale(path, NULL);
		wchar_t *arguments[] = { program, file, NULL };

		return Py_Main(2, arguments);
	}
	for (int round = !strcmp(how, "again") ? 2 : 1; round > 0; round--) {
		Py_Initialize();
		result |= PyRun_SimpleString(text);
		if (!strcmp(how, "call"))
			result |= call_embedded();
		if (!strcmp(how, "thread"))
			call_in_thread();
		Py_FinalizeEx();
	}
	__asm__ volatile("" ::: "memory");
	return result;
}

__attribute__((noinline)) int c_outer(const char *how, const char *path)
{
	int result = c_inner(how, path);

	__asm__ volatile("" ::: "memory");
	return result;
}

int main(int count, char **arguments)
{
	int result;

	if (count < 3 || !(text = read_text(arguments[2])))
		return 2;
	result = c_outer(arguments[1], arguments[2]);
	__asm__ volatile("" ::: "memory");
	return result;
}
