# SPDX-License-Identifier: Apache-2.0
"""A D-Bus client of thermoclined, as another program would write it. Not thread-safe: signals come in while it waits."""

from gi.repository import Gio, GLib

from .deadline import Deadline
from .errors import TestbedError

BUS_NAME = "org.thermocline1"
ROOT_PATH = "/org/thermocline1"
MANAGER = "org.thermocline1.Manager"
DOMAIN = "org.thermocline1.Domain"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_ERROR_PREFIX = "org.thermocline1.Error."


class ThermoclineError(TestbedError):
    """An error answer. `name` is without the project's prefix ("NoSuchDomain"), or whole for a foreign one."""

    def __init__(self, name, message):
        super().__init__(f"{name}: {message}")
        self.name = name.removeprefix(_ERROR_PREFIX)
        self.message = message


def connect(address):
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    return Gio.DBusConnection.new_for_address_sync(address, flags, None, None)


def iterate(deadline):
    """Lets signals in until at least one thing happened or the deadline is over."""
    context = GLib.MainContext.default()
    source = GLib.timeout_source_new(max(1, int(deadline.remaining * 1000)))
    source.set_callback(lambda *_: False)
    source.attach(context)
    try:
        context.iteration(True)
    finally:
        source.destroy()


class Client:
    def __init__(self, address):
        self.connection = connect(address)

    def close(self):
        self.connection.close_sync(None)

    def call(self, path, interface, method, arguments=None, seconds=60.0, bus_name=BUS_NAME):
        return self.start_call(path, interface, method, arguments, seconds, bus_name).result()

    def start_call(self, path, interface, method, arguments=None, seconds=60.0, bus_name=BUS_NAME, on_value=None):
        return PendingCall(self.connection, bus_name, path, interface, method, arguments, seconds, on_value)

    def manager(self, method, arguments=None):
        return self.call(ROOT_PATH, MANAGER, method, arguments)

    def manager_property(self, name):
        return self.call(ROOT_PATH, _PROPERTIES, "Get", GLib.Variant("(ss)", (MANAGER, name)))[0]

    def domain(self, uuid):
        return DomainObject(self, uuid)

    def wait_for_domain(self, uuid, seconds=15.0):
        """The daemon hears of a new domain a moment after libvirt made it."""
        domain = self.domain(uuid)
        deadline = Deadline(seconds)
        added = self.connection.signal_subscribe(BUS_NAME, MANAGER, "DomainAdded", ROOT_PATH, None, 0, lambda *_: None)
        try:
            while domain.path not in self.manager("ListDomains")[0]:
                if deadline.over:
                    raise TestbedError(f"thermoclined does not hear of {uuid}")
                iterate(deadline)
        finally:
            self.connection.signal_unsubscribe(added)
        return domain

    def has_owner(self):
        return self.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner",
                         GLib.Variant("(s)", (BUS_NAME,)), bus_name="org.freedesktop.DBus")[0]

    def wait_for_manager_property(self, name, value, seconds=30.0):
        seen = []
        subscription = self.connection.signal_subscribe(
            BUS_NAME, _PROPERTIES, "PropertiesChanged", ROOT_PATH, None, 0, lambda *_: seen.append(1))
        try:
            deadline = Deadline(seconds)
            while self.manager_property(name) != value:
                if deadline.over:
                    raise TestbedError(f"thermoclined: {name} does not become {value} within {seconds:.0f} s")
                # GLib drops signals of a name whose new owner it has not heard of yet.
                iterate(Deadline(min(0.2, deadline.remaining)))
        finally:
            self.connection.signal_unsubscribe(subscription)


class PendingCall:
    """A method call under way; result() waits for the answer. `on_value` is called at once when the answer comes in, so
    in order with the signals that came before and after it."""

    def __init__(self, connection, bus_name, path, interface, method, arguments, seconds, on_value):
        self._on_value = on_value
        self._answer = None
        self._deadline = Deadline(seconds + 5)
        self._what = f"{interface}.{method}"
        connection.call(bus_name, path, interface, method, arguments, None, Gio.DBusCallFlags.NO_AUTO_START,
                        int(seconds * 1000), None, self._done)

    def _done(self, connection, result):
        try:
            self._answer = (connection.call_finish(result).unpack(), None)
            if self._on_value:
                self._on_value(self._answer[0])
        except GLib.Error as error:
            name = Gio.DBusError.get_remote_error(error) or f"GLib.{error.code}"
            self._answer = (None, ThermoclineError(name, error.message.removeprefix(f"GDBus.Error:{name}: ")))

    @property
    def done(self):
        return self._answer is not None

    def result(self):
        while self._answer is None:
            if self._deadline.over:
                raise TestbedError(f"no answer to {self._what}")
            iterate(self._deadline)
        value, error = self._answer
        if error:
            raise error
        return value


def limit_holds(figures):
    return figures["LimitMet"] and figures["UsedBytes"] <= figures["LimitBytes"]


class DomainObject:
    """One domain. Properties are read by name as on D-Bus: figures()["ResidentBytes"]."""

    def __init__(self, client, uuid):
        self._client = client
        self.path = f"{ROOT_PATH}/domain/{uuid.replace('-', '_')}"

    def figures(self, on_value=None):
        return self._client.start_call(self.path, _PROPERTIES, "GetAll", GLib.Variant("(s)", (DOMAIN,)),
                                       on_value=on_value).result()[0]

    def start(self, method, arguments=None, seconds=120.0):
        return self._client.start_call(self.path, DOMAIN, method, arguments, seconds)

    def attach(self):
        self.start("Attach").result()

    def detach(self):
        self.start("Detach", seconds=300.0).result()

    def set_limit(self, size):
        self.start("SetLimit", GLib.Variant("(t)", (size,))).result()

    def clear_limit(self):
        self.start("ClearLimit").result()

    def history(self, since=0, until=0, resolution="raw"):
        return self.start("GetHistory", GLib.Variant("(tts)", (since, until, resolution))).result()[0]

    def watch(self):
        return FiguresWatch(self._client.connection, self)

    def wait_for(self, what, condition, seconds=60.0):
        """Returns the figures at the first moment when condition(figures) holds."""
        deadline = Deadline(seconds)
        with self.watch() as watch:
            while not condition(watch.figures):
                if deadline.over:
                    raise TestbedError(f"{self.path}: waited {seconds:.0f} s in vain for {what}; "
                                       f"its figures: {watch.figures}")
                watch.wait(deadline)
            return watch.figures

    def wait_for_gone(self, seconds=30.0):
        """Until the domain's object is gone (a defined domain's stays, and says that nothing runs)."""
        connection = self._client.connection
        subscriptions = [
            connection.signal_subscribe(BUS_NAME, MANAGER, "DomainRemoved", ROOT_PATH, None, 0, lambda *_: None),
            connection.signal_subscribe(BUS_NAME, _PROPERTIES, "PropertiesChanged", self.path, None, 0, lambda *_: None)]
        deadline = Deadline(seconds)
        try:
            while not self._is_gone():
                if deadline.over:
                    raise TestbedError(f"{self.path}: still there after {seconds:.0f} s: {self.figures()}")
                iterate(deadline)
        finally:
            for subscription in subscriptions:
                connection.signal_unsubscribe(subscription)

    def _is_gone(self):
        try:
            figures = self.figures()
        except ThermoclineError as error:
            if error.name == "org.freedesktop.DBus.Error.UnknownObject":
                return True
            raise
        return not figures["Running"] and figures["State"] == "detached"

    def wait_for_state(self, state, seconds=60.0):
        return self.wait_for(f"state {state}", lambda figures: figures["State"] == state, seconds)

    def wait_for_limit(self, seconds=120.0):
        """Until memory is under the limit."""
        return self.wait_for("the limit to be met", limit_holds, seconds)


class FiguresWatch:
    """Context manager: the figures of one domain, kept up to date by change signals while it waits."""

    def __init__(self, connection, domain):
        self._connection = connection
        self._domain = domain
        self._subscription = None
        self._changes = 0
        self.figures = {}

    def __enter__(self):
        # Subscribed before the first look: no change falls between the two.
        self._subscription = self._connection.signal_subscribe(
            BUS_NAME, _PROPERTIES, "PropertiesChanged", self._domain.path, None, 0, self._changed)
        self._domain.figures(on_value=lambda answer: self.figures.update(answer[0]))
        return self

    def __exit__(self, *_):
        self._connection.signal_unsubscribe(self._subscription)

    def _changed(self, _connection, _sender, _path, _interface, _signal, arguments):
        self.figures.update(arguments.unpack()[1])
        self._changes += 1

    def wait(self, deadline):
        """Returns at the next change (True), or at another event of the main context or the deadline (False)."""
        before = self._changes
        iterate(deadline)
        return self._changes != before
